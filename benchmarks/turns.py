"""How well turns are found: onset error, clipped first words, early cut-offs, missed turns, false opens, end delay.

    python -m benchmarks.turns ../shared/data --seed 2 --resume turns.jsonl --out turns.json

Runs the segmenter with each preset and detector over the labelled set of `benchmarks.turn_set`. A turn is *clipped* if
its window begins more than 50 ms after its onset, *cut* if its window ends by silence more than 100 ms before its end,
*missed* if windows have less than half of it, and *merged* if the window that has its end runs on into the next turn;
it *opens* one if none was open already. In a stretch
without speech a window is *false* if the noise is steady, or if it is taken for speech. The *end delay* runs from the
last voiced 10 ms to the end of the window.
"""

from __future__ import annotations

import argparse
import hashlib
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
from benchmarks.turn_set import Track, TurnSet, Utterance

CLIPPED_S, CUT_S = 0.05, 0.1
SET = ("turn_set", "noises")
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
        "opened": sum(f.onset_error_s is not None for f in heard),
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


@dataclass(frozen=True)
class Heard:
    """What one preset with one detector made of one track."""

    track: int
    preset: str
    detector: str
    background: str
    seconds: float
    found: list[Found]
    false: int


def hear(number: int, track: Track, arguments: argparse.Namespace) -> Iterator[Heard]:
    """Every preset with every detector."""
    for name in arguments.detectors:
        detector = make_detector(_settings("normal", name, arguments.set))
        voiced = [detector.is_speech(frame) for frame in _frames(track.samples)]
        for preset in arguments.presets:
            windows = cut_windows(track.samples, _settings(preset, name, arguments.set), Scripted(voiced))
            found = judge(track, windows)
            false = 0 if track.utterances else false_opens(track, windows)
            yield Heard(number, preset, name, track.background, track.seconds, found, false)


def result(heard: list[Heard], settings: HearingSettings) -> dict[str, Any]:
    """All tracks of one preset with one detector."""
    by: dict[tuple[str, float | None], list[Found]] = defaultdict(list)
    false: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for one in heard:
        for found in one.found:
            by[found.background, found.snr_db].append(found)
        if not one.found:
            for name in {"steady noise" if one.background in STEADY else one.background, one.background}:
                false[name][0] += one.false
                false[name][1] += one.seconds / 3600
    target = [f for (_, snr), rows in by.items() if snr is None or snr >= TARGET_SNR_DB for f in rows]
    return {
        "settings": settings.model_dump(),
        "at_10_db_or_better": summary(target),
        "turns": [{"background": b, "snr_db": snr} | summary(rows) for (b, snr), rows in by.items()],
        "false_opens": {n: {"count": int(c), "hours": round(h, 3)} for n, (c, h) in false.items()},
    }


class Progress:
    """Tracks that were heard, in a file of JSON lines, so that a run that was cut off goes on where it was.

    Raises:
        UserError: the file is of another run: other arguments, or another gate.
    """

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self._path, self.heard = path, list[Heard]()
        if path is None:
            return
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines and json.loads(lines[0]) != about:
            raise UserError(f"{path} is of another run (arguments or code differ); remove it, or name another file")
        for line in lines[1:]:
            row = json.loads(line)
            self.heard += [Heard(**one | {"found": [Found(**f) for f in one["found"]]}) for one in row]
        if not lines:
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")

    def add(self, heard: list[Heard]) -> None:
        """One track is done."""
        self.heard += heard
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([asdict(one) for one in heard]) + "\n")


def gate_sha256() -> str:
    """Of the code whose numbers these are."""
    root = Path(__file__).parents[1]
    files = [*sorted((root / "assistant/audio").glob("*.py")), *(root / "benchmarks" / f"{n}.py" for n in SET)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every preset with every detector, track by track."""
    from rich.console import Console
    from rich.progress import track as bar

    names = ("half", "seed", "scale", "presets", "detectors", "set")
    progress = Progress(arguments.resume, {n: getattr(arguments, n) for n in names} | {"gate": gate_sha256()})
    done = {one.track for one in progress.heard}
    turn_set = TurnSet(arguments.folder, arguments.half, arguments.seed, arguments.scale)
    left = [number for number in range(len(turn_set)) if number not in done]
    for number in bar(left, f"{len(turn_set)} tracks", console=Console(stderr=True)):
        progress.add(list(hear(number, turn_set.track(number), arguments)))
    if arguments.verbose:
        bad = [f for one in progress.heard for f in one.found if f.missed or f.clipped or f.cut]
        print(*(json.dumps(asdict(f)) for f in bad), sep="\n", file=sys.stderr)
    return [
        {"preset": preset, "detector": detector}
        | result(
            [one for one in progress.heard if (one.preset, one.detector) == (preset, detector)],
            _settings(preset, detector, arguments.set),
        )
        for detector in arguments.detectors
        for preset in arguments.presets
    ]


def _settings(preset: str, detector: str, changes: list[str]) -> HearingSettings:
    pairs = dict(change.split("=", 1) for change in changes)
    return HearingSettings.model_validate({"preset": preset, "detector": detector} | pairs)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: one row for each preset and detector, over all turns at 10 dB or better."""
    lines = [
        "| detector | preset | turns | opened a window | clipped | cut early | missed | false an hour, steady noise "
        "| onset error, median / 95 % (s) | end delay, median / 95 % (s) | merged |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        row, false = one["at_10_db_or_better"], one["false_opens"]["steady noise"]
        n = row["turns"]
        cells = [
            one["detector"],
            one["preset"],
            n,
            row["opened"],
            row["clipped"],
            _share(row["cut"], n),
            _share(row["missed"], n),
        ]
        cells += [f"{false['count'] / false['hours']:.1f} ({false['count']} in {false['hours']:.1f} h)"]
        cells += [_pair(row["onset_error_s"]), _pair(row["end_delay_s"]), _share(row["merged"], n)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def detail(one: dict[str, Any]) -> str:
    """Markdown: one preset and detector, by background and level."""
    columns = ("background", "SNR (dB)", "turns", "opened", "clipped", "cut early", "missed", "merged")
    lines = [f"| {' | '.join(columns)} | end delay, median / 95 % (s) |", "|---|---|---|---|---|---|---|---|---|"]
    for row in one["turns"]:
        cells = [row["background"], "" if row["snr_db"] is None else f"{row['snr_db']:.0f}", row["turns"]]
        cells += [row["opened"], row["clipped"], row["cut"], row["missed"], row["merged"], _pair(row["end_delay_s"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    false = (f"{name} {r['count']} in {r['hours']:.2f} h" for name, r in one["false_opens"].items())
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
    parser.add_argument("--scale", type=float, default=1.0, help="1: 1,000 utterances, 2.7 hours without any")
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), default=list(PRESETS))
    parser.add_argument("--detectors", nargs="+", choices=("webrtc", "silero"), default=["webrtc", "silero"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other numbers of `hearing`")
    parser.add_argument("--verbose", action="store_true", help="each bad turn on standard error")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep each track's results here, and go on from them"
    )
    parser.add_argument("--out", type=Path, help="JSON with every number")
    arguments = parser.parse_args()
    try:
        results = measure(arguments)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table(results))
    for one in results:
        print(f"\n{one['preset']}, {one['detector']}:\n\n{detail(one)}")
    if arguments.out:
        about = {"seed": arguments.seed, "half": arguments.half, "scale": arguments.scale}
        arguments.out.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
