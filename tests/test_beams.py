"""Several beginnings of a transcript are followed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from salmonn_core.beams import SAME, Search, follow
from salmonn_core.decode import GenerationOptions, generate, search_batch
from salmonn_core.llm import State
from salmonn_core.reading import Guide

END, A, B, C, D = range(5)
# The likelier first word goes on badly: by itself "A" is best, and "B C" is better than "A C".
AFTER = {
    (): {A: 0.55, B: 0.45},
    (A,): {C: 0.3, D: 0.3, END: 0.4},
    (B,): {C: 0.95, END: 0.05},
    (A, C): {END: 1.0},
    (B, C): {END: 0.9, D: 0.1},
}


class Codes:
    eos_token_id = END

    def decode(self, ids: list[int], **_: object) -> str:
        return "".join("?ABCD"[id_] for id_ in ids)


@dataclass
class Said:
    """The state: what was said in each sequence, and what stands before it."""

    sequences: list[tuple[int, ...]]

    def keep(self, rows: list[int]) -> Said:
        return Said([self.sequences[row] for row in rows])

    def cut(self, positions: int) -> Said:
        return self


class Scripted:
    """An LLM that says what `AFTER` says; counts the sequences of each step."""

    dtype = torch.float32

    def __init__(self) -> None:
        self.widths: list[int] = []

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return ids[:, None].float()

    def prefill(
        self, prompts: list[torch.Tensor], scale: float, prefixes: Sequence[State | None] = ()
    ) -> tuple[Said, torch.Tensor]:
        state = Said([() for _ in prompts])
        return state, self._logits(state)

    def pick(self, state: Said, rows: list[int]) -> Said:
        return state.keep(rows)

    def step(self, state: Said, tokens: torch.Tensor, scale: float) -> tuple[Said, torch.Tensor]:
        self.widths.append(len(tokens))
        grown = [(*said, token) for said, token in zip(state.sequences, tokens.tolist(), strict=True)]
        return Said(grown), self._logits(Said(grown))

    def _logits(self, state: Said) -> torch.Tensor:
        rows = torch.full((len(state.sequences), 5), -30.0)
        for row, said in zip(rows, state.sequences, strict=True):
            for token, probability in AFTER.get(said, {END: 1.0}).items():
                row[token] = torch.tensor(probability).log()
        return rows


PROMPT = torch.zeros(1, 1)


def answered(**options: object) -> str:
    given = GenerationOptions(**options)  # type: ignore[arg-type]
    ids = generate(Scripted(), Codes(), PROMPT, given, guide=Guide([]))  # type: ignore[arg-type]
    return Codes().decode(list(ids))


def test_a_likely_word_that_goes_on_badly_is_given_up() -> None:
    assert answered() == "BC"


def test_where_a_pattern_or_chance_chooses_there_is_one_beginning() -> None:
    assert answered(pattern="A(C|D)?") == "A"


def test_an_answer_has_no_more_tokens_than_it_may() -> None:
    assert answered(max_new_tokens=1) == "A"


def test_what_is_settled_is_handed_on_before_the_answer_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    # An end is possible from the first word on, and never likely.
    goes_on = {(B,) * n: {B: 0.99, A: 1e-5, C: 1e-5, D: 1e-5, END: 1e-6} for n in range(9)}
    monkeypatch.setitem(globals(), "AFTER", goes_on)
    monkeypatch.setattr("salmonn_core.beams.WIDTH", 2)
    llm = Scripted()
    ids = generate(llm, Codes(), PROMPT, GenerationOptions(), guide=Guide([]))  # type: ignore[arg-type]
    assert next(ids) == B
    assert len(llm.widths) == 0
    assert list(ids) == [B] * 8


def test_a_cancelled_search_stops_within_a_token() -> None:
    llm = Scripted()
    ids = generate(llm, Codes(), PROMPT, GenerationOptions(), lambda: len(llm.widths) >= 1, guide=Guide([]))  # type: ignore[arg-type]
    list(ids)
    assert len(llm.widths) == 1


def test_beginnings_that_are_far_behind_are_not_followed() -> None:
    llm, search = Scripted(), Search(Guide([]), END, 9)
    state, logits = llm.prefill([PROMPT], 1.0)
    for _ in follow(llm, state, logits, [search], 1.0, lambda: False):  # type: ignore[arg-type]
        assert len(search.live) <= 2
    assert search.settled() == [B, C]


def test_beginnings_that_say_the_same_for_a_while_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # "A" and "B" are as likely, and everything after them is the same: nothing would ever tell them apart.
    goes_on = {(first,) + (C,) * n: {C: 1.0} for first in (A, B) for n in range(8)}
    monkeypatch.setitem(globals(), "AFTER", {(): {A: 0.51, B: 0.49}} | goes_on)
    llm = Scripted()
    ids = generate(llm, Codes(), PROMPT, GenerationOptions(), guide=Guide([]))  # type: ignore[arg-type]
    assert list(ids) == [A] + [C] * 8
    assert llm.widths == [2] * SAME + [1] * (9 - SAME)


@pytest.mark.parametrize("count", [1, 3])
def test_answers_that_are_searched_for_together_are_those_of_each_alone(count: int) -> None:
    llm = Scripted()
    searches = [Search(Guide([]), END, 9) for _ in range(count)]
    assert search_batch(llm, [PROMPT] * count, searches) == [[B, C]] * count  # type: ignore[arg-type]
    assert max(llm.widths) == 2 * count
