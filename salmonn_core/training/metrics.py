"""Scores with their 95 % intervals: word error rate, labels named, slots, answers on a key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import jiwer
import numpy as np
from whisper_normalizer.english import EnglishTextNormalizer

from salmonn_core.training.texts import plain

DRAWS = 1000
FAMILIES = {  # of instruments, by the stems of their names; the longer name counts where one holds the other
    "keyboard": ("piano", "organ", "harpsichord", "accordion", "celesta", "clavinet"),
    "plucked strings": ("guitar", "harp", "banjo", "bass", "koto", "sitar", "shamisen", "mandolin", "ukulele"),
    "bowed strings": ("violin", "viola", "cello", "string", "fiddle", "double bass"),
    "brass": ("trumpet", "trombone", "horn", "tuba", "brass"),
    "woodwind": ("flute", "clarinet", "oboe", "saxophone", "recorder", "bassoon", "piccolo", "bagpipe", "english horn"),
    "percussion": ("drum", "marimba", "xylophone", "vibraphone", "music box", "bell", "timpani", "cymbal", "castanet"),
    "voice": ("choir", "voice", "singing"),
}


@dataclass(frozen=True)
class Score:
    """One line of the table."""

    set: str
    task: str
    measure: str
    clips: int
    value: float
    low: float
    high: float


@cache
def _normalizer() -> EnglishTextNormalizer:
    """Whisper's own, with its table of British spellings, which transformers' copy of it leaves out."""
    return EnglishTextNormalizer()


def ratio(parts: Sequence[float], wholes: Sequence[float], seed: int) -> tuple[float, float, float]:
    """sum(parts) / sum(wholes) and its 95 % interval, by drawing clips with replacement."""
    part, whole = np.asarray(parts, float), np.asarray(wholes, float)
    if not whole.sum():
        return 0.0, 0.0, 0.0
    drawn = np.random.default_rng(seed).integers(0, len(part), (DRAWS, len(part)))
    values = part[drawn].sum(axis=1) / np.maximum(whole[drawn].sum(axis=1), 1e-9)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(part.sum() / whole.sum()), float(low), float(high)


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """(errors, words said) of one clip after Whisper's English normalisation."""
    said, heard = _normalizer()(said), _normalizer()(heard)
    if not said:
        return len(heard.split()), 0
    found = jiwer.process_words(said, heard)
    return found.substitutions + found.deletions + found.insertions, len(said.split())


def families(text: str) -> set[str]:
    """The instrument families that a text names: "a solo on electric guitar" names the plucked strings."""
    known = sorted(((name, family) for family, those in FAMILIES.items() for name in those), key=lambda n: -len(n[0]))
    rest, found = f" {plain(text)}", set[str]()
    for name, family in known:
        if f" {name}" in rest:
            rest, found = rest.replace(f" {name}", " "), found | {family}
    return found


def holds(key: str, answer: str) -> bool:
    """Whether an answer has the key's words in it, in a row."""
    return bool(plain(key)) and f" {plain(key)} " in f" {plain(answer)} "


def slots_right(wanted: Mapping[str, str | None], said: Mapping[str, object]) -> tuple[int, int, int]:
    """(right, said, wanted) counts of slot values that are not null, values normalised."""
    true = {k: _value(str(v)) for k, v in wanted.items() if v is not None}
    given = {k: _value(str(v)) for k, v in said.items() if v is not None}
    return sum(given.get(k) == v for k, v in true.items()), len(given), len(true)


def _value(said: str) -> str:
    """A plain text whose initials stand together: "Zero P.M." is "zero pm"."""
    return re.sub(r"\b([a-z]) (?=[a-z]\b)", r"\1", plain(said))


def repeats(answer: str, transcript: str) -> bool:
    """Whether an answer just says again what was spoken."""
    return bool(plain(transcript)) and plain(answer) == plain(transcript)
