"""Which of some phrases were said: the values that a field may have, listened for instead of guessed.

What the audio tokens read by themselves (`salmonn_core.reading`) tells how likely each phrase is at each place of the
clip, beside what else may stand there (keyword spotting against a filler, Rose and Paul 1990, on CTC). It says nothing
of words that the reader hardly ever heard; those are found by their letters in what was written down
(`salmonn_core.likeness`). Both count together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from salmonn_core.likeness import Places, best_places, letters, padded
from salmonn_core.paths import emits, later

# Found on closed schemas that training never had, and on phrases drawn from any text (docs/training-log.md).
TOKEN = 10.0  # what a token of a phrase is worth; it costs how much less likely it is than the likeliest reading
LETTER = 7.0  # what a letter is worth
LIKENESS = 0.2  # of a phrase's letters so many have to be there
LEAST, SHORT, LONGER = 12.0, 40, 3.0  # of both together; more in texts of more letters, where more is found by chance
FLOOR = -15.0  # a token that was not heard at all
UNHEARD = -1e9


class _Searched(ABC):
    """Something that phrases are looked for in; what one of them takes is no part of another.

    Attributes:
        places: where each phrase fits best in what is left.
    """

    def __init__(self, phrases: int, length: int) -> None:
        self._taken = np.zeros(length, bool)
        self.places = self._place(np.arange(phrases))

    @abstractmethod
    def _place(self, rows: np.ndarray) -> Places:
        """Where some of the phrases fit best."""

    def take(self, phrase: int) -> None:
        start, end = self.places.start[phrase], self.places.end[phrase]
        self._taken[start:end] = True
        rows = ((self.places.start < end) & (self.places.end > start)).nonzero()[0]
        self.places.put(rows, self._place(rows))


class Read(_Searched):
    """Phrases in what the audio tokens read: score is how much likelier a phrase is than a filler.

    Args:
        log_probs: what `Reader` gives for the clip, (length, 1 + classes).
        phrases: the classes of each; where it cannot be spelled none, which is as good as one that was not heard.
    """

    def __init__(self, log_probs: np.ndarray, phrases: Sequence[Sequence[int]]) -> None:
        best = log_probs.argmax(axis=1)
        self._behind = np.maximum(log_probs - log_probs.max(axis=1, keepdims=True), FLOOR)
        # A token of the likeliest reading begins here; a phrase that has it as its own wins what a filler would pay.
        self._worth = TOKEN * emits(best)
        self._classes, self._lengths = padded([np.array(phrase, int) for phrase in phrases])
        super().__init__(len(phrases), len(log_probs))

    def _place(self, rows: np.ndarray) -> Places:
        classes, lengths = self._classes[rows], self._lengths[rows]
        found = Places(np.full(len(rows), UNHEARD), np.zeros_like(lengths), np.zeros_like(lengths))
        each, last = np.arange(len(rows)), np.maximum(lengths, 1) - 1
        again = np.zeros(classes.shape, bool)
        again[:, 1:] = classes[:, 1:] == classes[:, :-1]
        nowhere = np.full(classes.shape, UNHEARD)
        token, blank, began, paused = nowhere, nowhere, np.zeros_like(classes), np.zeros_like(classes)
        for at, taken in enumerate(self._taken):
            if taken:
                token = blank = nowhere
                continue
            # To each token of a phrase one comes from itself, a blank before it, the token before it or the outside.
            way, start = _better(token, began, later(blank, 0.0), later(paused, at))
            way, start = _better(way, start, np.where(again, UNHEARD, later(token, 0.0)), later(began, at))
            blank, paused = _better(token, began, blank, paused)
            blank = blank + self._behind[at, 0]
            token, began = way + self._behind[at][classes] + self._worth[at], start
            ended = token[each, last]
            better = (ended > found.score).nonzero()[0]
            found.put(better, Places(ended[better], began[better, last[better]], np.full(len(better), at + 1)))
        found.score[lengths == 0] = -TOKEN
        return found


class Written(_Searched):
    """Phrases in what was written down: score is how many of a phrase's letters are there."""

    def __init__(self, text: np.ndarray, phrases: Sequence[np.ndarray]) -> None:
        self._text, (self._phrases, self._lengths) = text, padded(phrases)
        super().__init__(len(phrases), len(text))

    def _place(self, rows: np.ndarray) -> Places:
        return best_places(self._phrases[rows], self._lengths[rows], self._text, self._taken)


def spot(groups: Mapping[str, Sequence[str]], read: Read | None, texts: Sequence[str]) -> dict[str, int | None]:
    """Which phrase of each group was said, by its place in the group; None where none was.

    The likeliest is taken first, and what it consists of belongs to no other phrase.

    Args:
        groups: phrases by name, as they are said (`salmonn_core.likeness.as_said`).
        read: of all the phrases, in the order of the groups; None for a model that cannot be read.
        texts: what was written down of the clip, once or several times; the best counts.
    """
    found: dict[str, int | None] = dict.fromkeys(groups)
    phrases = [(name, index) for name, allowed in groups.items() for index in range(len(allowed))]
    if not phrases:
        return found
    spelled = [letters(groups[name][index]) for name, index in phrases]
    heard = [letters(text) for text in texts]
    written = [Written(text, spelled) for text in heard]
    enough = LIKENESS * np.array([len(phrase) for phrase in spelled])
    least = LEAST + LONGER * math.log(max(len(heard[0]), SHORT) / SHORT)
    free = enough > 0
    while free.any():
        gain = LETTER * (np.max([text.places.score for text in written], axis=0) - enough) - least
        gain = np.where(free, gain + (read.places.score if read else 0.0), -np.inf)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        name, found[phrases[best][0]] = phrases[best]
        free &= [group != name for group, _ in phrases]
        for text in written:
            if text.places.score[best] > enough[best]:
                text.take(best)
        if read and read.places.score[best] > 0:
            read.take(best)
    return found


def _better(one: np.ndarray, start: np.ndarray, other: np.ndarray, begun: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The better of two ways to each token, and where it began."""
    return np.maximum(one, other), np.where(other > one, begun, start)
