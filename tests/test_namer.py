"""What the namer makes of a clip: a few likely labels, and what sounds one after the other."""

from __future__ import annotations

import pytest
import torch

from salmonn_core.namer import SPEECH, Namer, Names, described, moments, named, over_clip
from salmonn_core.opening import opening
from salmonn_core.prompts import with_names

LABELS = ("rain", "wind", "dog bark", "music", "bell", "train", "whistle")
NOTHING = [-9.0] * len(LABELS)


def hearing(label: str, strength: float = 2.0) -> list[float]:
    return [strength if name == label else -9.0 for name in LABELS]


def test_only_likely_labels_are_worth_a_name() -> None:
    logits = torch.tensor([[-9.0, -2.0, 1.0, -1.0, -3.6, 0.5, -9.0]])
    assert named(logits, LABELS).likely == ("dog bark", "train", "music", "wind")
    assert not named(torch.tensor([NOTHING]), LABELS)
    assert not named(torch.zeros(3, 0), ())


def test_a_piece_of_music_has_one_tempo() -> None:
    labels = ("slow tempo", "piano", "fast tempo", "minor key", "medium tempo", "major key")
    logits = torch.tensor([[0.0, -2.0, 1.0, -1.0, 0.5, -3.0]])
    assert named(logits, labels).likely == ("fast tempo", "minor key", "piano")


def test_a_sound_in_a_part_of_the_clip_counts_nearly_as_one_in_all_of_it() -> None:
    halved = over_clip(torch.tensor([hearing("bell")] * 5 + [NOTHING] * 5))[LABELS.index("bell")]
    assert halved == pytest.approx(2.0 - 0.69, abs=0.01)


def test_sounds_are_told_in_their_order_with_the_speech_between_them() -> None:
    windows = [hearing("rain")] * 6 + [NOTHING] * 5 + [hearing("bell")] * 6 + [hearing("rain")] * 6
    assert named(torch.tensor(windows), LABELS).in_order == ("rain", SPEECH, "bell", "rain")


def test_what_sounds_for_less_than_a_second_is_no_part_of_the_order() -> None:
    windows = [hearing("rain")] * 6 + [hearing("wind")] * 2 + [hearing("rain")] * 6
    assert named(torch.tensor(windows), LABELS).in_order == ("rain",)
    assert named(torch.tensor([hearing("wind")] * 2), LABELS).in_order == ("wind",)  # unless it is all there is


def faintly(label: str) -> list[float]:
    """As where a sound is one of many that may be."""
    return [-6.0 if name == label else -8.0 for name in LABELS]


def test_a_question_about_the_order_of_sounds_is_answered_with_those_that_it_names() -> None:
    # Neither is likely enough to be named, and the bell is always likelier than the wind.
    windows = torch.tensor([faintly("wind")] * 6 + [faintly("bell")] * 6)
    windows[:, LABELS.index("bell")] += 2.5
    assert named(windows, LABELS).in_order == (SPEECH,)
    for question in ("Is the bell before or after the wind?", "Is the wind before or after the bell?"):
        assert named(windows, LABELS, question).in_order == ("wind", "bell")
    assert named(windows.flip(0), LABELS, question).in_order == ("bell", "wind")
    # One sound has no order, and what is not asked about order is told what is likely.
    for question in ("Is the bell first?", "Do you hear the bell and the wind?"):
        assert named(windows, LABELS, question).in_order == (SPEECH,)


def test_a_sound_whose_name_holds_another_is_not_taken_for_both() -> None:
    labels = ("bell", "church bell", "rain")
    windows = torch.tensor([[-6.0, -6.0, -8.0]] * 6 + [[-8.0, -8.0, -6.0]] * 6)
    assert named(windows, labels, "Is the rain before or after the church bell?").in_order == ("church bell", "rain")
    assert named(windows, labels, "Is the bell before or after the rain?").in_order == ("bell", "rain")


def test_a_question_about_words_and_a_sound_is_told_which_comes_first() -> None:
    windows = torch.tensor([faintly("train")] * 6 + [NOTHING] * 6)
    question = "Are the words before or after the train?"
    assert named(windows, LABELS, question).in_order == ("train", SPEECH)
    assert named(windows.flip(0), LABELS, question).in_order == (SPEECH, "train")


def test_the_prompt_tells_the_order_only_where_there_is_one() -> None:
    assert with_names("Describe.", Names(("rain", "wind"), ("rain",))) == 'The sounds may be "rain", "wind". Describe.'
    told = with_names("Describe.", Names(("rain",), ("rain", SPEECH)))
    assert told == 'The sounds may be "rain". In order: "rain", "speech". Describe.'


def test_a_steady_and_a_restless_sound_of_the_same_mean_are_told_apart() -> None:
    steady = torch.zeros(4, 12, 3)
    restless = torch.tensor([1.0, -1.0]).repeat(6)[None, :, None].expand(4, 12, 3)
    apart = (described(moments(restless).mean(dim=0)) - described(moments(steady).mean(dim=0))).unflatten(0, (3, 3))
    mean, deviation, step = apart.mean(dim=1)
    assert mean == pytest.approx(0.0)
    assert deviation == pytest.approx(1.0, abs=0.01)
    assert step == pytest.approx(2.0)


def test_a_window_is_named_with_its_neighbours() -> None:
    namer = Namer(width=1, labels=1, llm_width=4)
    torch.nn.init.ones_(namer.label.weight)
    windows = torch.zeros(40, 12, 1)
    windows[20] = 5.0
    logits = namer.logits(windows)[:, 0]
    assert logits[28] > logits[29] == logits[0]


@pytest.mark.parametrize(
    ("question", "about_the_voice"),
    [
        ("Who is speaking, a man or a woman?", True),
        ("Tell whether the voice is male or female.", True),
        ("Which gender does the voice suggest?", True),
        ("Woman or man?", True),
        ("Is it a man or a dog?", False),
        ("What do you hear?", False),
    ],
)
def test_a_voice_is_named_only_where_that_is_asked(question: str, about_the_voice: bool) -> None:
    labels = ("rain", "man's voice", "woman's voice")
    heard = named(torch.tensor([[1.0, 3.0, 2.0], [1.0, -1.0, 2.5]]), labels, question)
    assert heard == (Names(voice="man") if about_the_voice else Names(("rain",), ("rain",)))
    assert with_names(question, heard).startswith("You hear a man." if about_the_voice else "The sounds may be")


@pytest.mark.parametrize(
    ("caption", "likely", "begun"),
    [
        ("A dog barks.", ("dog bark", "rain"), "A dog barks."),
        ("A helicopter flies.", ("thunder", "helicopter"), "A helicopter flies. Or is it thunder?"),
        ("A gun is fired.", ("explosion",), "A gun is fired. Or is it an explosion?"),
        ("A dog snores.", ("chainsaw",), "A dog snores. Or is it a chainsaw?"),
        ("Rain falls.", ("sea waves",), "Rain falls. Or is it sea waves?"),
        ("A slow piece for guitar.", ("piano", "slow tempo"), "A slow piece for guitar."),
        ("A man speaks.", (), ""),
    ],
)
def test_a_story_begins_with_what_is_heard_and_a_doubt_about_it(
    caption: str, likely: tuple[str, ...], begun: str
) -> None:
    assert opening(caption, Names(likely)) == begun
