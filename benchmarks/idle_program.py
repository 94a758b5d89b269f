"""What the whole program costs while nobody speaks: the CPU share of `assistant listen`, or of the screen.

    python -m benchmarks.idle_program --seconds 120 --out idle-program.json

Starts a PulseAudio of its own whose null sink is the microphone and plays soft noise into it, starts the program as a
user would, waits until it listens, and reads from the kernel what its process and each of its threads spent. Needs what
docs/microphone.md says of PulseAudio, and the model's weights.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile

from assistant.errors import UserError
from assistant.records import SAMPLE_RATE

TARGET_SHARE = 0.03
ROOM = 10 ** (-60 / 20)
SETTLE_S = 10.0  # after the first frame: what is loaded late is no idling
START_S = 180.0


@dataclass(frozen=True)
class Cost:
    """CPU seconds a second.

    Attributes:
        threads: of the busiest ones, by name.
        memory_mb: resident, at the beginning and at the end.
    """

    front_end: str
    seconds: float
    core_share: float
    threads: dict[str, float]
    memory_mb: tuple[float, float]


@contextmanager
def virtual_microphone(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of programs whose default microphone hears soft noise.

    Raises:
        UserError: PulseAudio is missing or does not start.
    """
    runtime = folder / "xdg"
    runtime.mkdir(mode=0o700)
    (folder / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    cache = os.environ.get("ASSISTANT_CACHE") or str(Path.home() / ".cache/listening-assistant")
    own = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(runtime), "PULSE_RUNTIME_PATH": str(runtime / "pulse")}
    environment = os.environ | own | {"ASSISTANT_CACHE": cache, "ASSISTANT_CONFIG": str(folder / "config")}
    sink = "module-null-sink sink_name=room rate=16000 channels=1"
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "-L", "module-native-protocol-unix"]
    try:
        server = subprocess.Popen([*command, "-L", sink], env=environment, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise UserError("pulseaudio is not installed; docs/microphone.md has what is needed") from error
    noise = folder / "noise.wav"
    samples = ROOM * np.random.default_rng(0).standard_normal(600 * SAMPLE_RATE)
    soundfile.write(noise, samples, SAMPLE_RATE, subtype="PCM_16")
    time.sleep(1.0)
    player = subprocess.Popen(["paplay", "--device=room", str(noise)], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield environment
    finally:
        for process in (player, server):
            process.terminate()
            process.wait()


@contextmanager
def headless(environment: dict[str, str]) -> Iterator[psutil.Process]:
    """`assistant listen`, from the moment at which it listens."""
    command = [sys.executable, "-m", "assistant", "listen", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "listening":
                break
        else:
            raise UserError(f"assistant listen stopped before it listened (exit {process.wait()})")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield psutil.Process(process.pid)
        process.terminate()


@contextmanager
def on_screen(environment: dict[str, str]) -> Iterator[psutil.Process]:
    """`assistant`, in a terminal of 120 by 40, from the moment at which its status line says that it listens."""
    here, there = pty.openpty()
    command = [sys.executable, "-m", "assistant", "--input", "default"]
    environment = environment | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    listening, terminal = threading.Event(), {"stdin": there, "stdout": there, "stderr": there}

    def read() -> None:
        shown = b""
        while data := os.read(here, 65_536):
            shown = (shown + data)[-200_000:]
            if b"listening" in shown:
                listening.set()

    threading.Thread(target=read, daemon=True).start()
    with subprocess.Popen(command, env=environment, **terminal) as process:  # type: ignore[call-overload]
        if not listening.wait(START_S):
            process.kill()
            raise UserError("the screen did not say that it listens")
        yield psutil.Process(process.pid)
        process.kill()


def cost(front_end: str, process: psutil.Process, seconds: float) -> Cost:
    """What a process spends in so many seconds from now on."""
    time.sleep(SETTLE_S)
    begun, memory = time.monotonic(), process.memory_info().rss
    before, threads_before = _spent(process), _by_thread(process)
    time.sleep(seconds)
    lasted = time.monotonic() - begun
    share = (_spent(process) - before) / lasted
    threads = {name: (spent - threads_before.get(name, 0.0)) / lasted for name, spent in _by_thread(process).items()}
    busiest = dict(sorted(threads.items(), key=lambda item: -item[1])[:6])
    megabytes = tuple(round(value / 2**20, 1) for value in (memory, process.memory_info().rss))
    rounded = {name: round(value, 5) for name, value in busiest.items()}
    return Cost(front_end, round(lasted, 1), round(share, 5), rounded, (megabytes[0], megabytes[1]))


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _by_thread(process: psutil.Process) -> dict[str, float]:
    """CPU seconds by the thread's number and name (Python 3.14 and later names them for the kernel)."""
    found = {}
    for thread in process.threads():
        name = Path(f"/proc/{process.pid}/task/{thread.id}/comm")
        label = name.read_text().strip() if name.exists() else "gone"
        found[f"{thread.id - process.pid}:{label}"] = thread.user_time + thread.system_time
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_program", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--front-ends", nargs="+", choices=("listen", "screen"), default=["listen", "screen"])
    parser.add_argument("--out", type=Path, help="JSON with every number")
    arguments = parser.parse_args()
    costs = []
    for name in arguments.front_ends:
        start = headless if name == "listen" else on_screen
        try:
            with (
                tempfile.TemporaryDirectory() as folder,
                virtual_microphone(Path(folder)) as environment,
                start(environment) as process,
            ):
                costs.append(cost(name, process, arguments.seconds))
        except UserError as error:
            sys.exit(f"error: {error}")
        one = costs[-1]
        print(
            f"{name}: {one.core_share:.2%} of one core (target {TARGET_SHARE:.0%}) over {one.seconds:.0f} s", end="; "
        )
        print(f"memory {one.memory_mb[0]:.0f} to {one.memory_mb[1]:.0f} MB", flush=True)
        print(*(f"  thread {thread}: {share:.2%}" for thread, share in one.threads.items()), sep="\n")
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(one) for one in costs], indent=1) + "\n")


if __name__ == "__main__":
    main()
