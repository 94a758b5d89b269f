"""Sentences for words that were seldom heard: what a reader of words lacks most (docs/training-log.md).

How often English has a word is that of wordfreq (Speer 2022), a list made from many corpora.
"""

from __future__ import annotations

import heapq
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from wordfreq import top_n_list, zipf_frequency

from salmonn_core.training.texts import Sentence, plain

ENOUGH = 8.0  # a word that was heard so often gains a third of what a new one does
EVENNESS = 0.55  # 1 counts a word as often as it is said, 0 all words alike
UNLISTED = 1.0  # zipf frequency of a name that no list has: once in a hundred million words
SET_OUT = 3  # words that a sentence costs besides its own
FREQUENT = 16_000  # words that lists are made of
LISTED_UNTIL = 10  # times a word is heard, if lists can bring it there
LIST_WORDS = 7
LIST_LICENSE = "word list: CC BY-SA 4.0"


def gain(word: str, heard: int) -> float:
    """What one more utterance of a word is worth, in any unit."""
    zipf = zipf_frequency(word, "en") or UNLISTED
    return float(10 ** (EVENNESS * zipf) * math.exp(-heard / ENOUGH))


def rarest_first(pool: Sequence[Sentence], heard: Counter[str], count: int) -> list[Sentence]:
    """The sentences that gain most a word spoken, each chosen after the words of those before it.

    Args:
        heard: how often each word was heard already; it is not changed.
    """
    known = heard.copy()
    words = [Counter(plain(sentence.text).split()) for sentence in pool]

    def worth(index: int) -> float:
        return sum(gain(word, known[word]) for word in words[index]) / (words[index].total() + SET_OUT)

    queue = [(-worth(index), index) for index in range(len(pool))]
    heapq.heapify(queue)
    chosen: list[Sentence] = []
    while queue and len(chosen) < count:
        _, index = heapq.heappop(queue)
        now = -worth(index)  # less than when it was queued: some of its words have been heard since
        if queue and now > queue[0][0]:
            heapq.heappush(queue, (now, index))
            continue
        chosen.append(pool[index])
        known.update(words[index])
    return chosen


def word_lists(heard: Counter[str], seed: int = 0) -> list[Sentence]:
    """Frequent words that were seldom heard, shuffled, seven a list."""
    rng = random.Random(seed)
    frequent = [word for word in top_n_list("en", FREQUENT) if re.fullmatch(r"[a-z][a-z']{2,}", word)]
    missing = [word for word in frequent for _ in range(min(LIST_WORDS, LISTED_UNTIL - heard[word]))]
    rng.shuffle(missing)
    lists = (" ".join(missing[i : i + LIST_WORDS]) for i in range(0, len(missing), LIST_WORDS))
    return [Sentence(text, "words of wordfreq", LIST_LICENSE) for text in lists]


def words_heard(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs in transcripts."""
    return Counter(word for text in texts for word in text.split())
