"""Words that do not exist, in a transcript, become those that were said.

Letters are read as they sound and a small LLM writes what it reads: "easten" for eastern, "polinisa" for Polynesia. Of
the words that look like one that nobody knows, the likeliest takes its place: by how well its letters are heard there
and by how often it is used. A name that is in no lexicon stays, if its letters are heard clearly enough. Two words
that may be one, "land lady", are looked at in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from salmonn_core.letters import CLASS_OF, CLASSES, as_classes
from salmonn_core.lexicon import Lexicon
from salmonn_core.likeness import padded
from salmonn_core.reading import LetterReading
from salmonn_core.spelling import LetterSpelling

UNHEARD = -80.0  # nats: words are longer than tokens, and may be heard much worse than they are written
END = CLASSES  # the class after the letters
SHORTEST = 3  # letters of a word that is looked at
WORD = re.compile(r"[a-z'][a-z']+")


class Respelling:
    """Of one transcript, word after word.

    Args:
        log_probs: (frames, classes) of letters (`salmonn_core.letters`).
        keep: given the transcript as it was, once it is whole.
    """

    def __init__(
        self,
        log_probs: Tensor,
        spelling: LetterSpelling,
        lexicon: Lexicon,
        keep: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._log_probs, self._spelling, self._lexicon, self._keep = log_probs, spelling, lexicon, keep
        self._written: list[str] = []  # since the last word that was looked at

    def __call__(self, pieces: Iterable[str]) -> Iterator[str]:
        """A transcript that comes in pieces, word by word: each when the next is whole, a doubtful one by one later."""
        waiting, ways, given = "", list[str](), ""
        for text in whole_words(pieces):
            given += text
            if waiting and not ways and (ways := self._ways(waiting + text)):
                waiting += text
                continue
            if waiting:
                yield self._settled(waiting, ways, text)
            waiting, ways = text, self._ways(text)
        if waiting:
            yield self._settled(waiting, ways)
        self._keep(given)

    def _ways(self, text: str) -> list[str]:
        """What may have been said in place of a word, or of two."""
        words = text.split()
        if not all(WORD.fullmatch(word) for word in words):
            return []
        if len(words) == 2:
            return self._lexicon.as_one(*words)
        return self._lexicon.instead_of(words[0]) if words and len(words[0]) >= SHORTEST else []

    def _settled(self, text: str, ways: list[str], following: str = "") -> str:
        """What was said in place of a word or two, with the space around them."""
        said = text.strip()
        if ways:
            self._catch_up()
            ways = [said, *ways]
            shares = np.array([self._lexicon.share(way) for way in ways])
            heard = self._reading.continued(self._classes(ways, following), UNHEARD)
            best = ways[int((heard + shares).argmax())]
            text, said = text.replace(said, best), best
        self._written.append(said)
        return text.replace(said, self._lexicon.written(said)) if said else text

    @cached_property
    def _reading(self) -> LetterReading:
        """Begun with the first word to look at: transcripts without one pay nothing."""
        # A frame and a class more: the end, after which no letter is left that a short word could leave out.
        ended = F.pad(self._log_probs, (0, 1, 0, 1), value=-torch.inf)
        ended[-1, END] = 0.0
        return LetterReading(ended, self._spelling, 1.0)

    def _catch_up(self) -> None:
        """To where the next word begins."""
        if said := spelled(" ".join(self._written)):
            self._reading.move(np.array([as_classes(self._spaced(said))]))
        self._written = []

    def _classes(self, ways: list[str], following: str) -> np.ndarray:
        """(n, longest) classes of each way, zeros behind: with what follows, else a short one has letters to spare."""
        following = spelled(following)
        after = as_classes(f" {following} ") if following else [END]
        return padded([np.array(as_classes(self._spaced(spelled(way))) + after) for way in ways])[0]

    def _spaced(self, word: str) -> str:
        return word if self._reading.at_start else f" {word}"


def whole_words(pieces: Iterable[str]) -> Iterator[str]:
    """A text that comes in pieces, word by word, each with the space after it."""
    held = ""
    for piece in pieces:
        *whole, held = re.split(r"(?<=\s)(?=\S)", held + piece)
        yield from whole
    if held:
        yield held


def spelled(text: str) -> str:
    """What of a text has letters: in lower case, one space between words."""
    return " ".join("".join(letter for letter in text.lower() if letter in CLASS_OF).split())
