"""The words there are, how often they are used, and which of them look alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

RAREST = 750  # a word in 10 ** 7.5; what is rarer in texts is mostly misspelt
PLAIN = re.compile(r"[a-z][a-z']+|[ai]")
LIKE = 0.4  # of a word's letters may differ in one that looks like it
LEAST = 2
MOST = 60  # that look like one


class Lexicon:
    """Words by the logarithm of their share in all words that are used."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = shares
        self._words = list(shares)

    def __contains__(self, word: str) -> bool:
        bare = word.strip("'")
        return not bare or bare in self._shares or (bare.endswith("'s") and bare[:-2] in self._shares)

    def share(self, words: str) -> float:
        """The logarithm of how often some words would stand in a row if none cared for its neighbours."""
        return sum(self._shares[word] for word in words.split())

    def near(self, word: str) -> list[str]:
        """The words, or two in a row, that look most like one."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import extract

        differ = max(LEAST, math.ceil(LIKE * len(word)))
        found = extract(word, self._words, scorer=Levenshtein.distance, score_cutoff=differ, limit=MOST)
        halves = ((word[:at], word[at:]) for at in range(1, len(word)))
        return [like for like, *_ in found] + [
            " ".join(both) for both in halves if all(h in self._shares for h in both)
        ]


@cache
def english() -> Lexicon:
    """Of wordfreq's English list (books, subtitles, Wikipedia, news and the web): 0.4 s, once."""
    from wordfreq import get_frequency_list

    by_rarity = get_frequency_list("en")  # at place n the words whose share is 10 ** (-n / 100)
    return Lexicon(
        {
            word: -rarity / 100 * math.log(10)
            for rarity, words in enumerate(by_rarity[: RAREST + 1])
            for word in words
            if PLAIN.fullmatch(word)
        }
    )
