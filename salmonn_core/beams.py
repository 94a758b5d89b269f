"""Several beginnings of a transcript followed at a time: a word that looked unlikely may turn out to be right.

Beam search over the joint scores of `salmonn_core.reading`. Most of the time one beginning is far ahead of all others,
and then it is as cheap as greedy decoding; what is settled is handed on at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salmonn_core.llm import gaps_filled
from salmonn_core.reading import Guide

if TYPE_CHECKING:
    from salmonn_core.llm import Llm, State

WIDTH = 8  # beginnings of one answer
BEHIND = 4.0  # nats behind the best one; what is further behind is given up


@dataclass(frozen=True)
class Beginning:
    """Of an answer: its token ids and its joint score."""

    ids: tuple[int, ...]
    score: float


class Search:
    """The beginnings of one answer.

    Args:
        guide: at the beginning of the answer; it goes on with the beginnings.
        end: the token that ends it.
        most: tokens it may have.
    """

    def __init__(self, guide: Guide, end: int, most: int) -> None:
        self.live = [Beginning((), 0.0)]
        self._guide, self._end, self._most = guide, end, most
        self._best: Beginning | None = None  # of those that are over

    def grow(self, logits: Tensor) -> list[int]:
        """Go on by one token; returns which of the beginnings each that is live now comes from.

        Args:
            logits: the LLM's after each live beginning, (beginnings, vocabulary).
        """
        ways = [
            (self.live[row].score + gain, row, token)
            for row, token, gain in zip(*(each.tolist() for each in self._guide.scores(logits.float())), strict=True)
        ]
        found, seen = [], Counter[int]()
        for score, row, token in sorted(ways, key=lambda way: -way[0]):
            seen[row] += 1
            if token != self._end:
                found.append((score, row, token))
            elif seen[row] <= WIDTH + 1:  # an end that nobody would choose holds back what is settled
                self._over(Beginning(self.live[row].ids, score))
        found = found[:WIDTH]
        found = [each for each in found if each[0] > found[0][0] - BEHIND]
        # Scores only fall: what is behind one that is over stays there.
        found = [each for each in found if self._best is None or each[0] > self._best.score]
        grown = [Beginning((*self.live[row].ids, token), score) for score, row, token in found]
        if grown and len(grown[0].ids) >= self._most:
            self._over(grown[0])
            grown = []
        self.live = grown
        if not grown:
            return []
        _, rows, tokens = zip(*found, strict=True)
        self._guide.grow(rows, tokens)
        return list(rows)

    def settled(self) -> list[int]:
        """The ids that all beginnings share; the answer once none is live."""
        ways = [each.ids for each in ([*self.live, self._best] if self._best else self.live)]
        if not self.live:
            return list(ways[0]) if ways else []
        first, last = min(ways), max(ways)
        same = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
        return list(first[: min(len(first), len(last)) if same is None else same])

    def _over(self, beginning: Beginning) -> None:
        if self._best is None or beginning.score > self._best.score:
            self._best = beginning


def follow(
    llm: Llm, state: State, logits: Tensor, searches: Sequence[Search], lora_scale: float, cancelled: Callable[[], bool]
) -> Iterator[None]:
    """Grow all searches to their end, all beginnings of all of them in one batch; yields after each token.

    Args:
        state, logits: what the LLM gave for the prompts of the searches.
    """
    places = list(range(len(searches)))  # the row of each beginning in the batch
    while True:
        sources, tokens, begin = [], [], 0
        for search in searches:
            there = places[begin : begin + len(search.live)]
            came_from = search.grow(logits[there]) if there else []
            sources += [there[row] for row in came_from]
            tokens += [beginning.ids[-1] for beginning in search.live]
            begin += len(there)
        yield
        if not sources or cancelled():
            return
        order = gaps_filled(sources)
        rows, fed = [sources[index] for index in order], [tokens[index] for index in order]
        places = [order.index(index) for index in range(len(order))]
        if rows != list(range(begin)):
            state = llm.pick(state, rows)
        state, logits = llm.step(state, torch.tensor(fed), lora_scale)
