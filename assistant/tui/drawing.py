"""Drawings out of characters: spectrograms, the level bar, large letters. Pure functions, no widgets."""

from __future__ import annotations

import bisect
import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from assistant.records import SAMPLE_RATE

if TYPE_CHECKING:
    from pyfiglet import Figlet

SHADES = " ░▒▓█"
RANGE_DB = 45.0
LOW_HZ, HIGH_HZ = 80.0, 7500.0
FFT = 512
FLOOR_DBFS = -80.0
FONTS = ("mono9", "smmono9", "standard", "small")  # from large to small


def spectrogram(samples: np.ndarray, columns: int, rows: int) -> list[str]:
    """Shades for (n,) float32 at 16 kHz: `rows` lines of `columns` characters, high tones on top.

    Bands are spaced evenly in the logarithm of the frequency; the loudest cell is full, 45 dB below it is empty.
    """
    spans = np.array_split(samples, columns)
    power = np.array([_bands(span, rows) for span in spans]).T[::-1]
    level = 10.0 * np.log10(power + 1e-12)
    share = np.clip(1.0 + (level - max(level.max(), -90.0)) / RANGE_DB, 0.0, 1.0)
    return ["".join(SHADES[round(float(cell) * (len(SHADES) - 1))] for cell in row) for row in share]


def _bands(span: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) mean power of the bands, low to high."""
    usable = max(1, len(span) // FFT)
    frames = np.resize(np.pad(span, (0, max(0, FFT - len(span)))), (usable, FFT))
    power = np.mean(np.abs(np.fft.rfft(frames * np.hanning(FFT), axis=1)) ** 2, axis=0)
    hertz = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
    edges = np.searchsorted(hertz, np.geomspace(LOW_HZ, HIGH_HZ, rows + 1))
    return np.array([power[low : max(high, low + 1)].mean() for low, high in itertools.pairwise(edges)])


def column(level_dbfs: float, width: int) -> int:
    """Where a level stands on a bar of so many characters."""
    share = (level_dbfs - FLOOR_DBFS) / -FLOOR_DBFS
    return round(max(0.0, min(1.0, share)) * width)


def level_bar(level_dbfs: float, floor_dbfs: float, threshold_dbfs: float, width: int) -> str:
    """The level as a bar with the noise floor (╎) and the threshold (┃) marked."""
    filled, floor, threshold = (column(value, width) for value in (level_dbfs, floor_dbfs, threshold_dbfs))
    return "".join(
        "┃" if at == threshold else "╎" if at == floor else "█" if at < filled else "·" for at in range(width + 1)
    )


@lru_cache(maxsize=8)
def large(text: str, width: int, height: int) -> str:
    """A text in the largest letters that fit; if none do, as much of its end as fits in the smallest of them.

    As it is, if no font has its characters.
    """
    for name in FONTS:
        if drawn := _drawn(text, name, width, height):
            return drawn
    words = text.split()
    ends = range(1, len(words))  # the fewer words, the likelier they fit
    first = bisect.bisect_left(ends, True, key=lambda at: _drawn(_end(words, at), FONTS[-1], width, height) is not None)
    return (_drawn(_end(words, first + 1), FONTS[-1], width, height) if first < len(ends) else None) or text


def _end(words: list[str], at: int) -> str:
    return " ".join(("...", *words[at:]))


@lru_cache(maxsize=2 * len(FONTS))
def _figlet(font: str, width: int) -> Figlet:
    """Reading a font takes longer than drawing with it."""
    from pyfiglet import Figlet

    return Figlet(font=font, width=width)


def _drawn(text: str, font: str, width: int, height: int) -> str | None:
    """In the letters of that font, or None if they do not fit or the font lacks some of them."""
    from pyfiglet import CharNotPrinted

    figlet = _figlet(font, max(width, 10))
    if not all(ord(character) in figlet.Font.chars for character in text if character != "\n"):
        return None
    try:
        drawn = figlet.renderText(text).rstrip("\n")
    except CharNotPrinted:  # a single letter is wider than the screen
        return None
    lines = drawn.splitlines()
    fits = len(lines) <= height and all(len(line.rstrip()) <= width for line in lines)
    return drawn if fits else None
