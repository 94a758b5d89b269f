"""From the last active frame to the first token on screen, with answers begun early and without, on the real model.

    python -m benchmarks.effective_delay ../shared/data --json docs/effective-delay.json

Recordings of ../shared/data/dev are played in real time, each followed by two seconds of silence, through the loop as
it runs live (`Session`, webrtcvad, salmonn-tiny). The same sound is heard both ways, one after the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from assistant.audio.source import read_wave
from assistant.audio.vad import make_detector
from assistant.commands.setup import make_turns
from assistant.events import Event, Responded
from assistant.profile import load
from assistant.records import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE, WindowEnd
from assistant.session import Session
from assistant.turns import Turns

SILENCE_S = 2.0
LOUDNESS = 0.05


class Played:
    """A waveform in real time, as a microphone would give it."""

    live = True
    end: WindowEnd = "end_of_file"
    name = "played"

    def __init__(self, wave: np.ndarray) -> None:
        self._frames = wave[: len(wave) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        begun = time.monotonic()
        for number, frame in enumerate(self._frames, 1):
            if stopped():
                return
            time.sleep(max(0.0, begun + number * FRAME_S - time.monotonic()))
            yield frame

    def dropped(self) -> int:
        return 0


def sound(data: Path, clips: int) -> np.ndarray:
    """Recordings of 2 to 6 s at one loudness, with a room's silence around them."""
    rng = np.random.default_rng(0)
    rows = [json.loads(line) for line in (data / "dev/speech.jsonl").read_text().splitlines()]
    rows = [row for row in rows if 2.0 < row["duration_s"] < 6.0][:clips]
    hush = (1e-4 * rng.standard_normal(int(SILENCE_S * SAMPLE_RATE))).astype(np.float32)
    parts: list[np.ndarray] = [hush]
    for row in rows:
        wave = read_wave(data / "dev" / row["path"])
        parts += [wave * (LOUDNESS / max(1e-6, float(np.sqrt(np.mean(wave**2))))), hush]
    return np.concatenate(parts).astype(np.float32)


def delays(turns: Turns, wave: np.ndarray, speculate_after_s: float) -> list[float]:
    hearing = turns.profile.hearing.model_copy(update={"speculate_after_s": speculate_after_s})
    turns.profile = turns.profile.model_copy(update={"hearing": hearing})
    found: list[float] = []

    def take(event: Event) -> None:
        if isinstance(event, Responded) and event.response.timings_ms.end_delay:
            found.append(event.response.timings_ms.end_delay)

    Session(Played(wave), make_detector(hearing), turns, take).run()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the audio pack")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    profile = load("default")
    profile = profile.model_copy(update={"hearing": profile.hearing.model_copy(update={"barge_in_s": 0.0})})
    turns = make_turns(profile, print)
    wave = sound(arguments.data, arguments.clips)
    delays(turns, wave[: 12 * SAMPLE_RATE], 0.2)  # the model packs its weights at its first question
    rows = []
    print("| answers begin | turns | median (ms) | 90 % (ms) |\n|---|---|---|---|")
    for name, after_s in (("at the end of the window", 0.0), ("at a pause of 0.2 s", 0.2)):
        found = delays(turns, wave, after_s)
        middle, late = statistics.median(found), float(np.quantile(found, 0.9))
        rows.append({"begins": name, "turns": len(found), "median_ms": middle, "p90_ms": late, "all_ms": found})
        print(f"| {name} | {len(found)} | {middle:.0f} | {late:.0f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
