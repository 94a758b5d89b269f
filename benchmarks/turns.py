"""How well turns are found: onset error, clipped first words, early cut-offs, missed turns, false opens, end delay.

    python -m benchmarks.turns ../shared/data --seed 2 --out turns.json

Runs the segmenter with each preset and detector over the labelled set of `benchmarks.turn_set`. A turn is *clipped* if
its window begins more than 50 ms after its onset, *cut* if its window ends by silence more than 100 ms before its end,
*missed* if windows have less than half of it, and *merged* if its window runs on into the next turn. In a stretch
without speech a window is *false* if the noise is steady, or if it is taken for speech. The *end delay* runs from the
last voiced 10 ms to the end of the window.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assistant.audio.segmenter import Segmenter
from assistant.audio.vad import VoiceDetector, make_detector
from assistant.errors import UserError
from assistant.events import WindowOpened
from assistant.profile import PRESETS, HearingSettings
from assistant.records import FRAME_S, FRAME_SAMPLES, AudioWindow
from benchmarks.noises import STEADY
from benchmarks.turn_set import Track, Utterance, tracks

CLIPPED_S, CUT_S = 0.05, 0.1
TARGET_SNR_DB = 10.0


@dataclass(frozen=True)
class Window:
    """A window as it was found, in seconds of its track."""

    opened_s: float  # when the gate decided
    start_s: float
    end_s: float
    reason: str
    kind: str


@dataclass(frozen=True)
class Found:
    """What became of one utterance."""

    voice: str
    background: str
    snr_db: float | None
    pause_s: float
    missed: bool
    onset_error_s: float | None = None  # None: a window was open already
    clipped: bool = False
    cut: bool = False
    merged: bool = False  # its window ran on into the next utterance
    end_delay_s: float | None = None


class Scripted:
    """The answers of a detector that has already heard the track."""

    def __init__(self, voiced: list[bool]) -> None:
        self._voiced = iter(voiced)

    def is_speech(self, frame: np.ndarray) -> bool:
        return next(self._voiced)


def cut_windows(samples: np.ndarray, settings: HearingSettings, detector: VoiceDetector) -> list[Window]:
    """(n,) float32 to the windows that are found in it."""
    segmenter = Segmenter(settings, detector, "benchmark")
    opened: dict[int, float] = {}
    found: list[Window] = []

    def take(items: Iterator[Any]) -> None:
        for item in items:
            if isinstance(item, WindowOpened):
                opened[item.window] = number * FRAME_S
            elif isinstance(item, AudioWindow):
                end = item.start_s + item.duration_s
                found.append(Window(opened[item.id], item.start_s, end, item.end, item.kind))

    for number, frame in enumerate(_frames(samples), 1):  # noqa: B007 - `take` reads it
        take(segmenter.feed(frame))
    take(segmenter.flush("end_of_file"))
    return found


def _frames(samples: np.ndarray) -> np.ndarray:
    return samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)


def judge(track: Track, windows: list[Window]) -> list[Found]:
    """What became of each utterance of a track."""
    following = [u.onset_s for u in track.utterances[1:]] + [track.seconds] * bool(track.utterances)
    return [_judge(track, u, later, windows) for u, later in zip(track.utterances, following, strict=True)]


def _judge(track: Track, said: Utterance, following_s: float, windows: list[Window]) -> Found:
    mine = [w for w in windows if w.end_s > said.onset_s + CLIPPED_S and w.start_s < said.end_s]
    about = (said.voice, track.background, track.snr_db, said.pause_s)
    covered = sum(min(w.end_s, said.end_s) - max(w.start_s, said.onset_s) for w in mine)
    if covered < (said.end_s - said.onset_s) / 2:
        return Found(*about, missed=True)
    first = mine[0]
    # The first that has its end: the next one may begin with it once more, in its pre-roll.
    last = next((w for w in mine if w.end_s > said.end_s - CUT_S), mine[-1])
    inside = [w for w in mine if said.onset_s + 0.3 < w.end_s < said.end_s - CUT_S]
    merged = last.end_s > following_s
    return Found(
        *about,
        missed=False,
        onset_error_s=first.opened_s - said.onset_s if first.opened_s > said.onset_s else None,
        clipped=first.start_s > said.onset_s + CLIPPED_S,
        cut=any(w.reason in ("silence", "steady") for w in inside),
        merged=merged,
        end_delay_s=None if merged or last.reason != "silence" else last.end_s - said.end_s,
    )


def false_opens(track: Track, windows: list[Window]) -> int:
    """Of a track without speech."""
    return sum(track.background in STEADY or w.kind == "speech" for w in windows)


def summary(found: list[Found]) -> dict[str, Any]:
    """Counts and quantiles."""
    heard = [f for f in found if not f.missed]
    return {
        "turns": len(found),
        "missed": len(found) - len(heard),
        "clipped": sum(f.clipped for f in heard),
        "cut": sum(f.cut for f in heard),
        "merged": sum(f.merged for f in heard),
        "onset_error_s": _quantiles([f.onset_error_s for f in heard if f.onset_error_s is not None]),
        "end_delay_s": _quantiles([f.end_delay_s for f in heard if f.end_delay_s is not None]),
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {name: round(float(np.quantile(values, q)), 3) for name, q in (("median", 0.5), ("p95", 0.95))}


class Tally:
    """Results of one preset with one detector."""

    def __init__(self, settings: HearingSettings) -> None:
        self.settings = settings
        self.found: list[Found] = []
        self._false: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])

    def add(self, track: Track, voiced: list[bool]) -> None:
        windows = cut_windows(track.samples, self.settings, Scripted(voiced))
        self.found += judge(track, windows)
        if not track.utterances:
            kind = "steady noise" if track.background in STEADY else track.background
            for name in {kind, track.background}:
                self._false[name][0] += false_opens(track, windows)
                self._false[name][1] += track.seconds / 3600

    def as_dict(self) -> dict[str, Any]:
        by: dict[tuple[str, float | None], list[Found]] = defaultdict(list)
        for found in self.found:
            by[found.background, found.snr_db].append(found)
        target = [f for f in self.found if f.snr_db is None or f.snr_db >= TARGET_SNR_DB]
        return {
            "settings": self.settings.model_dump(),
            "at_10_db_or_better": summary(target),
            "turns": [{"background": b, "snr_db": snr} | summary(rows) for (b, snr), rows in by.items()],
            "false_opens": {n: {"count": int(c), "hours": round(h, 3)} for n, (c, h) in self._false.items()},
        }


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every preset with every detector, track by track."""
    tallies = {
        (preset, detector): Tally(_settings(preset, detector, arguments.set))
        for detector in arguments.detectors
        for preset in arguments.presets
    }
    for number, track in enumerate(tracks(arguments.folder, arguments.half, arguments.seed, arguments.scale), 1):
        print(f"\rtrack {number}: {track.background}", end="\033[K", file=sys.stderr, flush=True)
        for name in arguments.detectors:
            detector = make_detector(_settings("normal", name, arguments.set))
            voiced = [detector.is_speech(frame) for frame in _frames(track.samples)]
            for preset in arguments.presets:
                tallies[preset, name].add(track, voiced)
    print(file=sys.stderr)
    results = []
    for (preset, detector), tally in tallies.items():
        results.append({"preset": preset, "detector": detector} | tally.as_dict())
        if arguments.verbose:
            bad = [f for f in tally.found if f.missed or f.clipped or f.cut]
            print(*(json.dumps(asdict(f)) for f in bad), sep="\n", file=sys.stderr)
    return results


def _settings(preset: str, detector: str, changes: list[str]) -> HearingSettings:
    pairs = dict(change.split("=", 1) for change in changes)
    return HearingSettings.model_validate({"preset": preset, "detector": detector} | pairs)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: one row for each preset and detector, over all turns at 10 dB or better."""
    lines = [
        "| detector | preset | turns | clipped | cut early | missed | false an hour, steady noise "
        "| onset error, median / 95 % (s) | end delay, median / 95 % (s) | merged |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        row, false = result["at_10_db_or_better"], result["false_opens"]["steady noise"]
        n = row["turns"]
        cells = [
            result["detector"],
            result["preset"],
            n,
            row["clipped"],
            _share(row["cut"], n),
            _share(row["missed"], n),
        ]
        cells += [f"{false['count'] / false['hours']:.1f} ({false['count']} in {false['hours']:.1f} h)"]
        cells += [_pair(row["onset_error_s"]), _pair(row["end_delay_s"]), _share(row["merged"], n)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def detail(result: dict[str, Any]) -> str:
    """Markdown: one preset and detector, by background and level."""
    lines = ["| background | SNR (dB) | turns | clipped | cut early | missed | merged | end delay, median / 95 % (s) |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in result["turns"]:
        cells = [row["background"], "" if row["snr_db"] is None else f"{row['snr_db']:.0f}", row["turns"]]
        cells += [row["clipped"], row["cut"], row["missed"], row["merged"], _pair(row["end_delay_s"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    false = (f"{name} {r['count']} in {r['hours']:.2f} h" for name, r in result["false_opens"].items())
    return "\n".join([*lines, "", f"False opens: {', '.join(false)}."])


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.1f} %)" if of else "0"


def _pair(quantiles: dict[str, float]) -> str:
    return f"{quantiles['median']:.2f} / {quantiles['p95']:.2f}" if quantiles else "-"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the audio pack: train/ and dev/ with speech.jsonl and sound.jsonl")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--half", choices=("tune", "report"), default="report", help="which recordings")
    parser.add_argument("--scale", type=float, default=1.0, help="less than 1 for a quicker, smaller set")
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), default=list(PRESETS))
    parser.add_argument("--detectors", nargs="+", choices=("webrtc", "silero"), default=["webrtc", "silero"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other numbers of `hearing`")
    parser.add_argument("--verbose", action="store_true", help="each bad turn on standard error")
    parser.add_argument("--out", type=Path, help="JSON with every number")
    arguments = parser.parse_args()
    try:
        results = measure(arguments)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table(results))
    for result in results:
        print(f"\n{result['preset']}, {result['detector']}:\n\n{detail(result)}")
    if arguments.out:
        about = {"seed": arguments.seed, "half": arguments.half, "scale": arguments.scale}
        arguments.out.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
