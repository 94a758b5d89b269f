"""What idle listening costs: CPU seconds for a second of sound, and memory over a simulated day.

    python -m benchmarks.idle --hours 24 --out idle.json

The segmenter and its detector hear room noise, and once in ten minutes a sound that opens a window, as fast as they
can. Every such window must come out again. The CPU time is of this thread alone; making the noise is not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from assistant.audio.segmenter import Segmenter, frames
from assistant.audio.vad import make_detector
from assistant.errors import UserError
from assistant.profile import HearingSettings
from assistant.records import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE, AudioWindow

TARGET_SHARE = 0.03
SOUND_S, EVERY_S, SAMPLES = 1.0, 600.0, 24
ROOM, LOUD = 10 ** (-55 / 20), 10 ** (-20 / 20)


@dataclass(frozen=True)
class Idle:
    """What was measured.

    Attributes:
        core_share: CPU seconds for a second of sound.
        memory_mb: resident, at equal intervals from the first tenth of an hour to the end.
    """

    detector: str
    hours: float
    core_share: float
    sounds: int
    windows: int
    memory_mb: tuple[float, ...]

    @property
    def lost(self) -> int:
        return self.sounds - self.windows

    @property
    def growth_mb(self) -> float:
        return self.memory_mb[-1] - self.memory_mb[0]


def measure(detector: str, hours: float) -> Idle:
    """Listen to so many hours of noise."""
    settings = HearingSettings.model_validate({"detector": detector})
    segmenter = Segmenter(settings, make_detector(settings), "benchmark")
    total, every = frames(hours * 3600), frames(EVERY_S)
    marks = {round(total * (0.1 / SAMPLES + n * (1 - 0.1 / SAMPLES) / (SAMPLES - 1))) - 1 for n in range(SAMPLES)}
    windows, spent, memory = 0, 0.0, []
    for number, frame in enumerate(_noise(total, every)):
        before = time.thread_time()
        for item in segmenter.feed(frame):
            windows += isinstance(item, AudioWindow)
        spent += time.thread_time() - before
        if number in marks:
            memory.append(resident_mb())
    windows += sum(isinstance(item, AudioWindow) for item in segmenter.flush("end_of_file"))
    sounds = sum(1 for n in range(total) if n % every == every // 2)
    return Idle(detector, hours, spent / (total * FRAME_S), sounds, windows, tuple(round(m, 1) for m in memory))


def _noise(total: int, every: int) -> Iterator[np.ndarray]:
    """Frames of room noise, with a whistle in the middle of each interval."""
    rng = np.random.default_rng(0)
    room = (rng.standard_normal((frames(60), FRAME_SAMPLES)) * ROOM).astype(np.float32)
    at = np.arange(frames(SOUND_S) * FRAME_SAMPLES) / SAMPLE_RATE
    whistle = (LOUD * np.sin(2 * np.pi * 1900 * at)).astype(np.float32).reshape(-1, FRAME_SAMPLES)
    for number in range(total):
        frame, since = room[int(rng.integers(len(room)))], number % every - every // 2
        yield frame + whistle[since] if 0 <= since < len(whistle) else frame


def resident_mb() -> float:
    """Of this process, from the kernel."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=24.0, help="of sound, heard as fast as this machine can")
    parser.add_argument("--detectors", nargs="+", choices=("webrtc", "silero"), default=["webrtc", "silero"])
    parser.add_argument("--out", type=Path, help="JSON with every number")
    arguments = parser.parse_args()
    try:
        results = [measure(detector, arguments.hours) for detector in arguments.detectors]
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{platform.processor() or platform.machine()}, {arguments.hours:g} hours of sound")
    print(f"| detector | of one core (target {TARGET_SHARE:.0%}) | memory, first and last (MB) | windows lost |")
    print("|---|---|---|---|")
    for r in results:
        memory = f"{r.memory_mb[0]:.1f}, {r.memory_mb[-1]:.1f}"
        print(f"| {r.detector} | {r.core_share:.2%} | {memory} | {r.lost} of {r.sounds} |")
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
