"""Commands as a transcript may have them: rare words are spelled otherwise, and the record quotes them so."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from salmonn_core.training.corpus import Clip
from salmonn_core.training.texts import plain

VOWELS, CONSONANTS = "aeiou", "bcdfghklmnprstvw"
SHORTEST = 4  # letters of a word that is misheard
RARE = 12  # commands that have such a word, at most


class Mishearing:
    """Of commands in text alone.

    Args:
        commands: all of them, to know which words are rare.
        share: how often a rare word is misheard.
    """

    def __init__(self, commands: Iterable[Clip], share: float) -> None:
        counts = Counter(word for clip in commands for word in set(clip.text.split()))
        self._rare = {word for word, count in counts.items() if count <= RARE and len(word) >= SHORTEST}
        self._share = share

    def __call__(self, clip: Clip, rng: random.Random) -> Clip:
        """The command as it may have been heard."""
        words = sorted(self._rare.intersection(clip.text.split()))
        heard = {word: misheard(word, rng) for word in words if rng.random() < self._share}
        if not heard:
            return clip

        def written(text: str) -> str:
            return " ".join(heard.get(word, word) for word in plain(text).split())

        slots = [[name, written(value)] for name, value in clip.row["slots"]]  # type: ignore[attr-defined]
        return replace(clip, text=written(clip.text), row={**clip.row, "slots": slots})


def misheard(word: str, rng: random.Random) -> str:
    """A word with one or two letters changed, left out, doubled, or with a space in it: as letters may be read."""
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(word))
        before, letter, after = word[:at], word[at], word[at + 1 :]
        changed = rng.choice(VOWELS if letter in VOWELS else CONSONANTS)
        split = f"{letter} " if 2 <= at < len(word) - 3 and " " not in word else letter
        word = before + rng.choice((changed, changed, "", letter * 2, split)) + after
    return " ".join(word.split())
