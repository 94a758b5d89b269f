"""Several beginnings of a transcript followed at a time: a word that looked unlikely may turn out to be right.

Beam search over the joint scores of `salmonn_core.reading`. Most of the time one beginning is far ahead of all others,
and then it is as cheap as greedy decoding; what is settled is handed on at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from salmonn_core.llm import gaps_filled
from salmonn_core.reading import Guide

if TYPE_CHECKING:
    from salmonn_core.llm import Llm, State

WIDTH = 8  # beginnings of one answer
BEHIND = 4.0  # nats behind the best one; what is further behind is given up
SAME = 5  # tokens at the end by which two are taken to be one


@dataclass(frozen=True)
class Beginning:
    """Of an answer: its token ids and its joint score."""

    ids: tuple[int, ...]
    score: float


class Way(NamedTuple):
    """To go on with a beginning."""

    score: float
    row: int
    token: int


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
        found = self._ways(logits)
        # Scores only fall: what is behind one that is over stays there.
        found = [way for way in found if self._best is None or way.score > self._best.score]
        found = self._apart(found)[:WIDTH]
        self.live = [Beginning((*self.live[way.row].ids, way.token), way.score) for way in found]
        if self.live and len(self.live[0].ids) >= self._most:
            self._over(self.live[0])
            self.live = []
        if not self.live:
            return []
        rows = [way.row for way in found]
        self._guide.grow(rows, [way.token for way in found])
        return rows

    def _ways(self, logits: Tensor) -> list[Way]:
        """The ways to go on that are not far behind, the likeliest first; ends are taken note of."""
        rows, tokens, gains = self._guide.scores(logits.float())
        scores = np.array([beginning.score for beginning in self.live])[rows] + gains
        order = np.lexsort((tokens, rows, scores))[::-1]
        rows, tokens, scores = rows[order], tokens[order], scores[order]
        for at in (tokens == self._end).nonzero()[0]:
            # An end that nobody would choose would hold back what is settled.
            if np.count_nonzero(rows[: at + 1] == rows[at]) <= WIDTH + 1:
                self._over(Beginning(self.live[rows[at]].ids, float(scores[at])))
        goes_on = (tokens != self._end).nonzero()[0]
        goes_on = goes_on[scores[goes_on] > scores[goes_on[:1]] - BEHIND]
        ways = zip(scores[goes_on].tolist(), rows[goes_on].tolist(), tokens[goes_on].tolist(), strict=True)
        return [Way(*way) for way in ways]

    def _apart(self, ways: list[Way]) -> list[Way]:
        """The likeliest of those that have said the same for a while: what comes next will not tell them apart."""
        lately: dict[tuple[int, ...], Way] = {}
        for way in ways:
            ids = (*self.live[way.row].ids, way.token)
            lately.setdefault(ids[-SAME:] if len(ids) > SAME else ids, way)
        return list(lately.values())

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
