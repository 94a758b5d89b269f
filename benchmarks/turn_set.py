"""A labelled set for turn-taking: known voices at known times over known backgrounds, the same for the same seed.

Recordings belong to one of two halves by a hash of their names: numbers are tuned on `tune` and reported on `report`,
which alone has the recordings of `dev/`.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assistant.audio.source import read_wave
from assistant.records import SAMPLE_RATE
from benchmarks.noises import STEADY, steady

Half = Literal["tune", "report"]
ROOM_DBFS = -70.0
GAP_S = (2.5, 5.0)
SPEECH_DBFS = (-32.0, -20.0)
LOUDEST, STEP = -30.0, SAMPLE_RATE // 100  # voice is what lies less than this below the loud parts, in steps of 10 ms
BABBLERS = 6
PIECE_MIN = 5.0  # longer stretches without speech come in pieces of about so much, each a track
HOUSEHOLD = {
    "clock tick", "door close", "door open", "door creak", "footsteps", "keyboard typing", "sneeze", "fire crackling",
    "hammer", "sawing", "toilet flush", "dog bark", "dog panting", "cat meow", "coin", "splash", "bubbles", "snoring",
    "cough", "glass breaking", "vacuum cleaner", "washing machine", "telephone", "typing", "water", "chair",
}  # fmt: skip


@dataclass(frozen=True)
class Utterance:
    """Where somebody speaks, in seconds of the track."""

    voice: str
    onset_s: float
    end_s: float
    pause_s: float  # the longest within it


@dataclass(frozen=True)
class Track:
    """A stretch of sound: (n,) float32 at 16 kHz, and who speaks in it."""

    background: str
    snr_db: float | None
    samples: np.ndarray
    utterances: tuple[Utterance, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


class Recordings:
    """The audio pack's clips of one half.

    Args:
        folder: with train/ and dev/, each with speech.jsonl and sound.jsonl.

    Attributes:
        rng: draws from it; a track sets its own.
    """

    def __init__(self, folder: Path, half: Half) -> None:
        self.rng = np.random.default_rng(0)
        self._voices: dict[str, list[Path]] = defaultdict(list)
        self._sounds: dict[str, list[Path]] = defaultdict(list)
        for row, path in _rows(folder, "speech", half):
            if 0.4 <= row["duration_s"] <= 15.0:
                self._voices[f"{row['source']}/{row.get('speaker') or 'unlabelled'}"].append(path)
        for row, path in _rows(folder, "sound", half):
            at_home = HOUSEHOLD & set(row.get("labels") or ())
            kind = "music" if row["kind"] == "music" else "household" if at_home else "other"
            self._sounds[kind].append(path)
        self._names = sorted(self._voices)
        # The square root lets the few sentences of a rare voice count, without repeating them all the time.
        weights = np.sqrt([len(self._voices[name]) for name in self._names])
        self._weights = weights / weights.sum()

    def voice(self) -> tuple[str, np.ndarray]:
        """Some voice's name, and something that it says."""
        name = self._names[int(self.rng.choice(len(self._names), p=self._weights))]
        paths = self._voices[name]
        return name, read_wave(paths[int(self.rng.integers(len(paths)))])

    def stretch(self, background: str, seconds: float) -> np.ndarray:
        """So much of a background, at -20 dBFS."""
        if background == "room":
            return _at(self.rng.standard_normal(int(seconds * SAMPLE_RATE)), -20.0)
        if background == "babble":
            voices = [self._joined(lambda: self.voice()[1], seconds) for _ in range(BABBLERS)]
            return _at(np.sum([_at(voice, -20.0) for voice in voices], axis=0), -20.0)
        paths = self._sounds[background]
        return _at(self._joined(lambda: read_wave(paths[int(self.rng.integers(len(paths)))]), seconds), -20.0)

    def _joined(self, draw: Callable[[], np.ndarray], seconds: float) -> np.ndarray:
        pieces: list[np.ndarray] = []
        while sum(map(len, pieces)) < seconds * SAMPLE_RATE:
            pieces.append(_at(draw(), -20.0))
        return np.concatenate(pieces)[: int(seconds * SAMPLE_RATE)]


def spoken(recordings: Recordings, background: str, snr_db: float | None, count: int, rng: Any) -> Track:
    """A track of so many utterances, with pauses between them, over a background that is so far below each."""
    level = float(rng.uniform(*SPEECH_DBFS))
    clips = [recordings.voice() for _ in range(count)]
    gaps = [int(rng.uniform(*GAP_S) * SAMPLE_RATE) for _ in range(count + 1)]
    samples = np.zeros(sum(gaps) + sum(len(wave) for _, wave in clips), np.float32)
    utterances, at = [], gaps[0]
    for (name, wave), gap in zip(clips, gaps[1:], strict=True):
        active = voiced_steps(wave)
        loud = np.repeat(active, STEP)
        samples[at : at + len(wave)] = wave * _gain(wave[: len(loud)][loud], level)
        utterances.append(_utterance(name, at / SAMPLE_RATE, active))
        at += len(wave) + gap
    behind = recordings.stretch(background, len(samples) / SAMPLE_RATE)
    behind = behind * 10 ** ((ROOM_DBFS if snr_db is None else level - snr_db) / 20 + 1)
    samples[: len(behind)] += behind
    return Track(background, snr_db, np.clip(samples, -1.0, 1.0), tuple(utterances))


def unspoken(recordings: Recordings, background: str, level_dbfs: float, seconds: float, rng: Any) -> Track:
    """A stretch without anybody who talks to the assistant."""
    wave = steady(background, seconds, rng) if background in STEADY else recordings.stretch(background, seconds)
    return Track(background, None, _at(wave, level_dbfs), ())


@dataclass(frozen=True)
class Part:
    """What a track is made of: `utterances` over a background, or so many `seconds` without any."""

    background: str
    snr_db: float | None = None
    utterances: int = 0
    level_dbfs: float = 0.0
    seconds: float = 0.0


def plan(scale: float = 1.0) -> list[Part]:
    """The tracks of a set. `scale` 1 has 1,000 utterances, 70 minutes of steady noise and 90 of moving background."""
    behind = [(name, snr) for name in ("babble", "music", "household") for snr in (20.0, 10.0, 5.0)]
    parts = [
        Part(background, snr, utterances=10)
        for background, snr in [("room", None), *behind]
        for _ in range(max(1, round(10 * scale)))
    ]
    for background, minutes in [*((name, 10.0) for name in STEADY), ("babble", 30), ("music", 30), ("household", 30)]:
        pieces = max(1, round(minutes * scale / 2 / PIECE_MIN))
        for level in (-50.0, -35.0):
            seconds = 60.0 * minutes * scale / 2 / pieces
            parts += [Part(background, level_dbfs=level, seconds=seconds)] * pieces
    return parts


class TurnSet:
    """The whole set; each track is made when it is asked for, the same for the same seed and number."""

    def __init__(self, folder: Path, half: Half, seed: int, scale: float = 1.0) -> None:
        self.parts = plan(scale)
        self._recordings, self._seed = Recordings(folder, half), seed

    def __len__(self) -> int:
        return len(self.parts)

    def track(self, number: int) -> Track:
        """Track `number`, from 0."""
        part, rng = self.parts[number], np.random.default_rng([self._seed, number])
        self._recordings.rng = rng
        if part.utterances:
            return spoken(self._recordings, part.background, part.snr_db, part.utterances, rng)
        return unspoken(self._recordings, part.background, part.level_dbfs, part.seconds, rng)


def voiced_steps(wave: np.ndarray) -> np.ndarray:
    """(n / 160,) bool: which steps of 10 ms of a clean recording are loud enough to be voice."""
    steps = wave[: len(wave) // STEP * STEP].reshape(-1, STEP)
    levels = 10.0 * np.log10(np.mean(steps**2, axis=1) + 1e-12)
    loud = levels > np.percentile(levels, 95) + LOUDEST
    runs = np.convolve(loud, np.ones(3), "valid") == 3  # 30 ms in a row; less is a click
    return np.convolve(np.pad(runs, (1, 1)), np.ones(3), "same") > 0


def _utterance(voice: str, at_s: float, active: np.ndarray) -> Utterance:
    voiced = np.flatnonzero(active)
    pause_s = float(np.max(np.diff(voiced), initial=1) - 1) / 100
    return Utterance(voice, at_s + float(voiced[0]) / 100, at_s + float(voiced[-1] + 1) / 100, pause_s)


def _rows(folder: Path, kind: str, half: Half) -> Iterator[tuple[dict[str, Any], Path]]:
    for part in ("train", "dev"):
        for line in (folder / part / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if _half(part, row) == half:
                yield row, folder / part / row["path"]


def _half(part: str, row: dict[str, Any]) -> Half:
    name = str(row.get("group") or row["path"])  # two cuts of one recording are on the same side
    return "report" if part == "dev" or hashlib.sha256(name.encode()).digest()[0] % 2 else "tune"


def _gain(wave: np.ndarray, level_dbfs: float) -> float:
    return float(10 ** (level_dbfs / 20) / (np.sqrt(np.mean(np.square(wave, dtype=np.float64))) + 1e-9))


def _at(wave: np.ndarray, level_dbfs: float) -> np.ndarray:
    return (wave * _gain(wave, level_dbfs)).astype(np.float32)
