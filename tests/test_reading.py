"""Reading the audio tokens as CTC, and writing transcripts with it."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from salmonn_core.reading import FLOOR, Guide, Reader, WordReading
from salmonn_core.spelling import WordSpelling, merged_from, often_heard, spellings

WORDS = {"a": 0, "\u0120a": 1, "b": 2, "\u0120b": 3, "<end>": 4, "\u0120c": 5, "\u0120ab": 6, "\u0120aba": 7}
MERGES = ["\u0120a b", "\u0120ab a"]
KNOWN = [1, 3, 2]  # the reader knows " a", " b" and "b" within a word
PARTS = {6: (1, 2), 7: (6, 0)}


class Tokenizer:
    eos_token_id = WORDS["<end>"]

    @property
    def backend_tokenizer(self) -> Tokenizer:
        return self

    def to_str(self) -> str:
        return json.dumps({"model": {"vocab": WORDS, "merges": MERGES}})

    def get_vocab(self) -> dict[str, int]:
        return WORDS

    def __len__(self) -> int:
        return len(WORDS)


def reader() -> Reader:
    return Reader(torch.eye(4)[:3], torch.tensor(KNOWN))


def read(frames: str) -> torch.Tensor:
    """Log-probabilities of a clip that says these classes nearly surely: `-` blank, `a`, `b`, `.` the b in " ab"."""
    rows = torch.full((len(frames), 4), 0.01)
    rows[range(len(frames)), ["-ab.".index(f) for f in frames]] = 0.97
    return rows.log()


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]


def begins_with(log_probs: torch.Tensor, classes: list[int], whole: bool = False) -> float:
    """Probability that a CTC path reads as something that begins with these classes, by trying every path."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        said = collapsed(path)
        if said == classes if whole else said[: len(classes)] == classes:
            total += float(torch.tensor([log_probs[t, c] for t, c in enumerate(path)]).sum().exp())
    return total


@pytest.mark.parametrize("said", [[], [1], [1, 2], [2, 2], [1, 1, 2]])
def test_the_reading_of_a_beginning_is_the_sum_over_all_paths(said: list[int]) -> None:
    log_probs = torch.randn(6, 4, generator=torch.manual_seed(3)).log_softmax(-1)
    guide = Guide([WordReading(log_probs, WordSpelling(KNOWN, Tokenizer()), 1.0)])
    # " a" is token 1 and class 1, " b" token 3 and class 2; the first word has no space.
    answer = [{1: 0, 2: 2}[c] if i == 0 else {1: 1, 2: 3}[c] for i, c in enumerate(said)]
    joint = guide(torch.zeros(len(WORDS)), answer)
    before = begins_with(log_probs, said)
    for class_, first, inside in ((1, 0, 1), (2, 2, 3)):
        token = inside if said else first
        assert joint[token].exp() == pytest.approx(begins_with(log_probs, [*said, class_]) / before, rel=1e-3)
    assert joint[WORDS["<end>"]].exp() == pytest.approx(begins_with(log_probs, said, whole=True) / before, rel=1e-3)


def written(log_probs: torch.Tensor, llm: torch.Tensor, weight: float) -> list[int]:
    guide, answer = Guide([WordReading(log_probs, WordSpelling(KNOWN, Tokenizer()), weight)]), []
    while len(answer) < 12:
        token = int(guide(llm, answer).argmax())
        if token == WORDS["<end>"]:
            break
        answer.append(token)
    return answer


def test_an_llm_that_says_the_same_word_for_ever_is_kept_to_what_was_heard() -> None:
    runs_on = torch.tensor([4.0, 4.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])  # it loves "a" and hardly ever ends
    assert written(read("-a-bb-a-"), runs_on, 0.5) == [0, 3, 1]
    assert len(written(read("-a-bb-a-"), runs_on, 0.01)) == 12


def test_a_word_that_the_reader_never_learned_can_still_be_written() -> None:
    sure = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 60.0, 0.0, 0.0])
    guide = Guide([WordReading(read("-a-"), WordSpelling(KNOWN, Tokenizer()), 0.4)])
    assert int(guide(sure, [0]).argmax()) == WORDS["\u0120c"]


def test_only_a_bare_word_starts_an_answer_and_only_a_spaced_one_goes_on() -> None:
    spelling = WordSpelling(KNOWN, Tokenizer())
    assert spelling.classes(at_start=True)[:6, 0].tolist() == [1, 0, 2, 0, 0, 0]
    assert spelling.classes(at_start=False)[:6, 0].tolist() == [0, 1, 3, 2, 0, 0]


def test_a_rare_token_is_spelled_by_the_parts_it_was_merged_from() -> None:
    assert merged_from(Tokenizer().to_str()) == PARTS
    assert WordSpelling(KNOWN, Tokenizer()).classes(at_start=False)[6].tolist() == [1, 3, 0, 0, 0, 0, 0, 0]
    assert 7 not in spellings(KNOWN, PARTS)  # the reader has no "a" within a word
    assert spellings([0, 1, 2], PARTS)[7] == (1, 2, 0)
    assert spellings([0, 6], PARTS)[7] == (6, 0)


def test_what_is_heard_seldom_counts_for_its_parts() -> None:
    # Once " aba" and twice " ab": too few, so " a" is heard thrice more, "b" too, and "a" once however rare.
    assert often_heard([7, 6, 6, 1, 3, 3], PARTS, 4) == [0, 1, 2, 3]
    assert often_heard([7, 6, 6, 1, 3, 3], PARTS, 3) == [0, 1, 3, 6]
    assert often_heard([7, 6, 6, 1, 3, 3], PARTS, 1) == [1, 3, 6, 7]


def test_a_word_of_two_classes_is_read_as_the_sum_over_all_paths_too() -> None:
    log_probs = torch.randn(6, 4, generator=torch.manual_seed(5)).log_softmax(-1)
    for said, answer in (([1, 3], [6]), ([1, 2, 1, 3], [0, 3, 6])):  # " ab", "a b ab"
        guide = Guide([WordReading(log_probs, WordSpelling(KNOWN, Tokenizer()), 1.0)])
        joint = guide(torch.zeros(len(WORDS)), answer)
        for classes, token in (([1], 1), ([1, 3], 6), ([3], 2)):
            expected = begins_with(log_probs, [*said, *classes]) / begins_with(log_probs, said)
            assert joint[token].exp() == pytest.approx(expected, rel=1e-3)


def test_beginnings_that_are_followed_together_score_as_each_alone() -> None:
    log_probs = torch.randn(9, 4, generator=torch.manual_seed(6)).log_softmax(-1)

    def guide() -> Guide:
        return Guide([WordReading(log_probs, WordSpelling(KNOWN, Tokenizer()), 0.7)])

    together, logits = guide(), torch.randn(3, len(WORDS), generator=torch.manual_seed(7))
    together.scores(logits[:1])
    together.grow([0, 0], [0, 2])  # "a", "b"
    together.grow([1, 0, 0], [6, 5, 3])  # "b ab", "a c" whose c cannot be spelled, "a b"
    rows, tokens, scores = together.scores(logits)
    for row, answer in enumerate(([2, 6], [0, 5], [0, 3])):
        expected = guide()(logits[row], answer)
        assert tokens[rows == row].tolist() == expected.isfinite().nonzero().flatten().tolist()
        assert np.allclose(scores[rows == row], expected[tokens[rows == row]], atol=1e-6)


def test_a_word_that_was_spelled_is_written_as_the_llm_writes_it() -> None:
    llm = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    assert written(read("-a.b--"), llm, 0.5) == [6, 3]
    assert written(read("-a-b--"), llm, 0.5) == [0, 3]


def test_the_greedy_reading_merges_repeats_and_drops_blanks() -> None:
    audio = torch.eye(4)[[0, 0, 3, 1, 1, 0]] * 5
    plain = reader()
    torch.nn.init.constant_(plain.blank.bias, 10.0)
    assert plain.greedy(audio) == [1, 3, 1]


def test_a_clip_with_no_audio_token_in_favour_falls_back_to_the_floor() -> None:
    guide = Guide([WordReading(torch.tensor([[0.0, -60.0, -60.0, -60.0]]), WordSpelling(KNOWN, Tokenizer()), 1.0)])
    assert guide(torch.zeros(len(WORDS)), [])[0] == pytest.approx(FLOOR, abs=1e-3)
