"""Where in a text a phrase may stand that was misheard: "ice moa" for "iced mocha".

A small model writes a word that it never learned as others that sound alike. Letters that stand for like sounds count
for one another a little, and words run together, so that phrases are looked for in the letters alone: the best local
alignment of a whole phrase with any part of the text (Sellers 1980), all phrases at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAME, LIKE, OTHER = 1.0, 0.1, -1.0  # of two letters that face each other
LEFT_OUT = -0.5  # of a letter that faces none
LIKE_ONES = ("aeiou", "pb", "td", "kg", "fv", "sj", "mn", "lr", "ijw")
RESPELLED = (
    (r"ph", "f"),
    (r"ck", "k"),
    (r"qu", "kw"),
    (r"x", "ks"),
    (r"gh", "g"),
    (r"c(?=[eiy])", "s"),
    (r"ch|c|q", "k"),
    (r"z", "s"),
    (r"y", "i"),
    (r"[^a-z]", ""),
    (r"(.)\1", r"\1"),
)
ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NEVER = -1e3


def as_said(phrase: str) -> str:
    """In lower case; numbers below a hundred, `%` and `&` in words; other signs between words as spaces."""
    words = re.sub(r"\b\d{1,2}\b", lambda number: _in_words(int(number[0])), phrase.lower())
    words = words.replace("%", " percent").replace("&", " and ").replace("_", " ")
    return " ".join(re.findall(r"[\w']+", words))


def _in_words(number: int) -> str:
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f" {ONES[ones]}" if ones else "")


def letters(text: str) -> np.ndarray:
    """(letters,) numbers from 0 to 25: the text in one spelling for one sound, without spaces."""
    text = unicodedata.normalize("NFKD", text.lower())  # accents as signs of their own
    for pattern, sound in RESPELLED:
        text = re.sub(pattern, sound, text)
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64) - ord("a")


@dataclass(frozen=True)
class Places:
    """Where each of some phrases fits best.

    Attributes:
        score: (phrases,) the higher the better.
        start, end: (phrases,) the part of the text or clip, end exclusive.
    """

    score: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def put(self, rows: np.ndarray, places: Places) -> None:
        """Change those of some phrases."""
        self.score[rows], self.start[rows], self.end[rows] = places.score, places.start, places.end


def padded(phrases: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Phrases of any lengths as (phrases, longest) with zeros behind, and their lengths, (phrases,)."""
    lengths = np.array([len(phrase) for phrase in phrases])
    table = np.zeros((len(phrases), max(lengths.max(), 1)), int)
    for row, phrase in enumerate(phrases):
        table[row, : len(phrase)] = phrase
    return table, lengths


def best_places(phrases: np.ndarray, lengths: np.ndarray, text: np.ndarray, taken: np.ndarray) -> Places:
    """Where in a text each phrase fits best; its score is at most its length.

    Args:
        phrases: the `letters` of each, (phrases, longest), `padded`.
        lengths: (phrases,)
        text: the same of the text, (letters,).
        taken: (letters,) bool, those of the text that belong to something else.
    """
    position = np.arange(len(text) + 1)
    skipped = np.concatenate(([0.0], np.where(taken, NEVER, LEFT_OUT).cumsum()))  # all letters before a position
    score = np.zeros((len(phrases), len(position)))
    start = np.tile(position, (len(phrases), 1))
    found = Places(np.zeros(len(phrases)), np.zeros_like(lengths), np.zeros_like(lengths))
    for place in range(phrases.shape[1] + 1):
        ended = (lengths == place).nonzero()[0]
        end = score[ended].argmax(axis=1)
        found.put(ended, Places(score[ended, end], start[ended, end], end))
        if place == phrases.shape[1]:
            break
        facing = score[:, :-1] + np.where(taken, NEVER, FACING[phrases[:, place, None], text])
        score = score + LEFT_OUT
        start[:, 1:] = np.where(facing > score[:, 1:], start[:, :-1], start[:, 1:])
        score[:, 1:] = np.maximum(facing, score[:, 1:])
        # Letters of the text that face none: the best of all positions before, at the price of what is skipped.
        ahead = score - skipped
        best = np.maximum.accumulate(ahead, axis=1)
        origin = np.maximum.accumulate(np.where(ahead == best, position, 0), axis=1)
        score, start = best + skipped, np.take_along_axis(start, origin, axis=1)
    return found


def _facing() -> np.ndarray:
    table = np.full((26, 26), OTHER)
    for group in LIKE_ONES:
        numbers = [ord(letter) - ord("a") for letter in group]
        table[np.ix_(numbers, numbers)] = LIKE
    np.fill_diagonal(table, SAME)
    return table


FACING = _facing()
