"""From the end of a spoken window to the first token and to 40 tokens, beside two cascades.

    pip install -e '.[bench]'
    python -m benchmarks.latency

*stock* is what a user would build today: faster-whisper (base, int8) transcribes, llama.cpp answers with the
same SmolLM2. *tuned* is the honest bar: CTranslate2's encoder called on the clip alone, a Q4_0 model, the system
prompt cached. Each runs in a process of its own that answers one window at a time, in turn, so that whatever else
this machine does hits all alike; ratios of medians are what counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import ENGINES, TOKENS
from salmonn_core.audio import read_audio
from salmonn_core.config import SAMPLE_RATE
from salmonn_core.errors import UserError

EXAMPLES = Path(__file__).parent.parent / "examples"
WINDOW_S, PRE_ROLL_S = 5.0, 0.6
TARGETS = {("stock", "first"): 0.25, ("tuned", "first"): 0.6, ("stock", "all"): 0.5, ("tuned", "all"): 1.0}


def ending(code: int) -> str:
    """How a process came to its end."""
    if code < 0:  # it had no time for words
        how = signal.Signals(-code).name
        return f"was killed by {how}: a package of it does not run on this processor, or memory ran out"
    return "stopped; its own words are above"


def spoken_window() -> np.ndarray:
    """A sentence as the live loop would hand it over: with pre-roll, and silence that ended it; five seconds in all."""
    quiet = np.random.default_rng(0).standard_normal(int(WINDOW_S * SAMPLE_RATE)).astype(np.float32) * 1e-3
    spoken = read_audio(EXAMPLES / "phone-number.wav")
    start = int(PRE_ROLL_S * SAMPLE_RATE)
    quiet[start : start + len(spoken)] += spoken[: len(quiet) - start]
    return quiet


@dataclass
class Peer:
    """An engine in its own process: a line in, a line of JSON out."""

    name: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, window: Path, threads: int) -> Peer:
        command = [sys.executable, "-m", "benchmarks.peers", name, str(window), str(threads)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        peer = cls(name, process)
        peer.answer()  # loads and warms up
        return peer

    def answer(self) -> dict[str, Any]:
        """Milliseconds to the first and to all tokens of one answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"the engine {self.name} {ending(self.process.wait())}")
        return dict(json.loads(line))

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)


def measure(names: list[str], window: Path, rounds: int, threads: int) -> dict[str, list[dict[str, Any]]]:
    """Answers of each engine, alternating."""
    peers = [Peer.start(name, window, threads) for name in names]
    try:
        for _ in range(2):
            for peer in peers:
                peer.answer()
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(rounds):
            for peer in peers:
                found[peer.name].append(peer.answer())
    finally:
        for peer in peers:
            peer.stop()
    return found


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Median milliseconds by engine and measure."""
    return {
        name: {key: statistics.median(row[key] for row in rows) for key in ("heard", "first", "all")}
        for name, rows in found.items()
    }


def table(medians: dict[str, dict[str, float]], tokens: int) -> str:
    """Markdown, ours against each."""
    lines = [
        f"| engine | heard (ms) | first token (ms) | {tokens} tokens (ms) | ours / it, first | ours / it, {tokens} |",
        "|---|---|---|---|---|---|",
    ]
    ours = medians["salmonn-tiny"]
    for name, row in medians.items():
        ratios = [f"{ours[key] / row[key]:.2f}" + _target(name, key) for key in ("first", "all")]
        cells = [name, *(f"{row[key]:.0f}" for key in ("heard", "first", "all")), *ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _target(name: str, key: str) -> str:
    return f" (target {TARGETS[name, key]})" if (name, key) in TARGETS else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="answers of each engine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", nargs="+", choices=sorted(ENGINES), default=["salmonn-tiny", "stock", "tuned"])
    parser.add_argument("--out", type=Path, help="JSON with every answer's times")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        window = Path(folder) / "window.npy"
        np.save(window, spoken_window())
        try:
            found = measure(arguments.engines, window, arguments.rounds, arguments.threads)
        except UserError as error:
            sys.exit(f"error: {error}")
    medians = summary(found)
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, {WINDOW_S:.0f} s window")
    print(table(medians, TOKENS))
    for name, rows in found.items():
        print(f"{name}: heard {rows[-1]['transcript']!r}, said {rows[-1]['text']!r}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"medians_ms": medians, "answers": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
