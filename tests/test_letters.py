"""Letters are read from Whisper's states, and keep a transcript to what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salmonn_core.config import LettersConfig
from salmonn_core.letters import CLASSES, LETTERS, Letters, as_classes, likeliest
from salmonn_core.reading import Guide, LetterReading
from salmonn_core.spelling import LetterSpelling

TOKENS = ["<end>", "a", "cat", "\u0120cat", "\u0120ca", "t", "\u0120sat", "\u0120Cat", "s", "!", "\u0120dog", "\u0120a"]


class Tokenizer:
    eos_token_id = 0

    def get_vocab(self) -> dict[str, int]:
        return {text: id_ for id_, text in enumerate(TOKENS)}

    def __len__(self) -> int:
        return len(TOKENS)


def net(width: int = 8, blocks: int = 3) -> Letters:
    torch.manual_seed(0)
    letters = Letters(LettersConfig(width, blocks), 6).eval()
    torch.nn.init.normal_(letters.told.weight)
    return letters


def said(text: str, hold: int = 2) -> torch.Tensor:
    """Log-probabilities of a clip that says this nearly surely, each letter for some frames and a blank after it."""
    classes = [c for letter in as_classes(text) for c in [letter] * hold + [0]]
    rows = torch.full((len(classes), CLASSES), 0.001)
    rows[range(len(classes)), classes] = 0.97
    return rows.log()


def written(clip: torch.Tensor, logits: torch.Tensor, weight: float) -> str:
    guide, answer = Guide([LetterReading(clip, LetterSpelling(Tokenizer()), weight)]), []
    while len(answer) < 12:
        token = int(guide(logits, answer).argmax())
        if token == Tokenizer.eos_token_id:
            break
        answer.append(token)
    return "".join(TOKENS[token] for token in answer).replace("\u0120", " ")


@pytest.mark.parametrize("frames", [1, 2, 31, 64])
def test_each_frame_has_a_probability_of_every_letter(frames: int) -> None:
    read = net()(torch.randn(frames, 6))
    assert read.shape == (frames, CLASSES)
    assert torch.allclose(read.exp().sum(dim=1), torch.ones(frames), atol=1e-5)


def test_a_clip_reads_the_same_beside_others_as_alone() -> None:
    letters, clips = net(), [torch.randn(length, 6) for length in (24, 10, 17)]
    laid = torch.zeros(3, 24, 6)
    for row, clip in zip(laid, clips, strict=True):
        row[: len(clip)] = clip
    _, together = letters.read_twice(laid, torch.tensor([24, 10, 17]))
    for row, clip in zip(together, clips, strict=True):
        assert torch.allclose(row[: len(clip)], letters(clip), atol=1e-5)


def test_the_likeliest_letters_are_words() -> None:
    assert likeliest(said("a cat  sat ")) == "a cat sat"


def test_tokens_are_spelled_by_their_letters_and_others_not_at_all() -> None:
    spelling = LetterSpelling(Tokenizer())
    inside, first = spelling.classes(at_start=False), spelling.classes(at_start=True)
    assert [LETTERS[c - 1] for c in inside[TOKENS.index("\u0120Cat")].tolist() if c] == list(" cat")
    assert not inside[TOKENS.index("!")].any()
    assert not first[TOKENS.index("\u0120cat")].any()
    assert (first[TOKENS.index("cat")] == inside[TOKENS.index("cat")]).all()


def test_the_tokens_that_may_come_next_are_found_without_the_llm() -> None:
    spelling = LetterSpelling(Tokenizer())
    assert [TOKENS[token] for token in spelling.begins(" cats")] == ["\u0120ca", "\u0120cat"]


@pytest.mark.parametrize("text", ["cat", "a cat sat", "cats", "a dog sat", "cat cat"])
def test_what_the_letters_say_is_written_whatever_the_llm_would(text: str) -> None:
    assert written(said(text), torch.randn(len(TOKENS), generator=torch.manual_seed(1)), 0.9) == text


def test_the_llm_decides_where_the_letters_leave_it_open() -> None:
    clip = torch.logaddexp(said("a cat sat", 1) - 0.7, said("a dog sat", 1) - 0.7)
    for word in ("cat", "dog"):
        logits = torch.zeros(len(TOKENS))
        logits[TOKENS.index(f"\u0120{word}")] = 3.0
        assert written(clip, logits, 0.5) == f"a {word} sat"


def test_a_long_text_that_was_hardly_heard_leaves_what_comes_after_it_apart():
    """A transcript is caught up with word by word, or by hundreds of letters at once."""
    noise = torch.randn(900, CLASSES, generator=torch.manual_seed(2)).mul(2.0).log_softmax(-1)
    text = np.array([as_classes("the cat sat on a mat and " * 24)])
    at_once, in_pieces = (LetterReading(noise, LetterSpelling(Tokenizer()), 1.0) for _ in range(2))
    at_once.move(text)
    for piece in np.split(text, 25, axis=1):
        in_pieces.move(piece)
    ways = np.array([as_classes("cat"), as_classes("dog"), as_classes("sat")])
    expected, found = in_pieces.continued(ways, -80.0), at_once.continued(ways, -80.0)
    assert len(set(expected.round(3))) == 3
    assert found == pytest.approx(expected, abs=0.2)  # what is too unlikely to matter is left out elsewhere
    assert found - found[0] == pytest.approx(expected - expected[0], abs=1e-6)


def test_a_long_clip_is_read_as_a_short_one() -> None:
    """Candidates are looked for near where the answer stands; pauses and a long past change nothing."""
    pause = torch.full((300, CLASSES), -30.0)
    pause[:, 0] = 0.0
    clip = torch.cat([pause, *[torch.cat((said("a cat sat "), pause)) for _ in range(4)], said("a dog")])
    logits = torch.zeros(len(TOKENS))
    guide, answer = Guide([LetterReading(clip, LetterSpelling(Tokenizer()), 0.9)]), []
    while len(answer) < 40 and (token := int(guide(logits, answer).argmax())):
        answer.append(token)
    assert "".join(TOKENS[token] for token in answer).replace("\u0120", " ").split() == ["a", "cat", "sat"] * 4 + [
        "a",
        "dog",
    ]
