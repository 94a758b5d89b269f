"""The words there are, how often they are used, and which of them look alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product

from salmonn_core.errors import UserError

RAREST = 750  # a word in 10 ** 7.5; what is rarer in texts is mostly misspelt
PLAIN = re.compile(r"[a-z][a-z']+|[ai]")
LIKE = 0.4  # of a word's letters may differ in one that looks like it
LEAST = 2
MOST = 60  # that look like one
UNKNOWN = -24.0  # share of a word that is not among them: mostly there is none, or it is a name
TOGETHER = 3.0  # nats by which words are said in a row more often than if none cared for its neighbours
TAUGHT = -9.0  # share of a word that the user expects: said more often than most names, seldom beside "the"


class Lexicon:
    """Words by the logarithm of their share in all words that are used.

    Args:
        taught: words that the user expects, as they are to be written.
    """

    def __init__(self, shares: Mapping[str, float], taught: Iterable[str] = ()) -> None:
        self._taught = {word.lower(): word for name in taught for word in name.split()}
        self._shares = {**shares, **dict.fromkeys(self._taught, TAUGHT)}

    def __contains__(self, word: str) -> bool:
        return self.share(word) > UNKNOWN

    def share(self, words: str) -> float:
        """The logarithm of how often some words stand in a row."""
        shares = [self._share(word) for word in words.split()]
        return sum(shares) + TOGETHER * (len(shares) - 1)

    def _share(self, word: str) -> float:
        bare = word.strip("'")
        return self._shares.get(bare, self._shares.get(bare.removesuffix("'s"), UNKNOWN))

    def instead_of(self, word: str) -> list[str]:
        """What may have been said in place of a word; nothing if that is out of the question.

        The words, or two in a row, that look most like one that nobody knows; of one that is known those that
        the user expects.
        """
        if word in self:
            return [] if word in self._taught else _near(word, self._taught)
        halves = (product(self._said(word[:at]), self._said(word[at:])) for at in range(1, len(word)))
        return _near(word, self._shares) + [" ".join(both) for each in halves for both in each]

    def _said(self, half: str) -> list[str]:
        """What a half of two words that were written as one may be: itself, or what the user expects."""
        return [half] * (half in self._shares) + [like for like in _near(half, self._taught) if like != half]

    def as_one(self, first: str, second: str) -> list[str]:
        """The word that two known ones are together, if it is said more often than they are beside each other."""
        whole, known = first + second, first in self and second in self
        return [whole] if known and whole in self and self.share(whole) > self.share(f"{first} {second}") else []

    def written(self, words: str) -> str:
        """Words as the user writes them."""
        return " ".join(self._taught.get(word, word) for word in words.split())


def _near(word: str, words: Mapping[str, object]) -> list[str]:
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import extract

    differ = max(LEAST, math.ceil(LIKE * len(word)))
    found = extract(word, words.keys(), scorer=Levenshtein.distance, score_cutoff=differ, limit=MOST)
    return [like for like, *_ in found]


@lru_cache(2)
def lexicon_of(language: str, taught: tuple[str, ...] = ()) -> Lexicon:
    """What wordfreq knows of a language (books, subtitles, Wikipedia, news and the web): 0.4 s, once.

    Args:
        taught: as of `Lexicon`.

    Raises:
        UserError: a language that it does not know.
    """
    from wordfreq import available_languages, get_frequency_list

    if language not in (known := available_languages()):
        raise UserError(f"the model's config.json has `lexicon: {language}`; wordfreq knows {', '.join(sorted(known))}")
    by_rarity = get_frequency_list(language)  # at place n the words whose share is 10 ** (-n / 100)
    shares = {
        word: -rarity / 100 * math.log(10)
        for rarity, words in enumerate(by_rarity[: RAREST + 1])
        for word in words
        if PLAIN.fullmatch(word)
    }
    return Lexicon(shares, taught)
