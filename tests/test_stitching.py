"""Captions across the seam of two windows that overlap."""

import re

import numpy as np
import pytest

from assistant.events import Responded, TokenGenerated
from assistant.history import HistoryWriter
from assistant.history.store import HistoryStore
from assistant.session import Session
from assistant.stitching import Seam, stitch
from assistant.turns import Turns
from tests.conftest import ArraySource, FakeCore, LoudIsVoice, silence, tone


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        ("the quick brown fox jumps", "fox jumps over the dog", "the quick brown fox jumps over the dog"),
        ("and then he said,", "He said that it rains", "and then he said, that it rains"),
        ("we walked to the sta", "to the station at night", "we walked to the station at night"),
        ("one two three four", "ree four five", "one two three four five"),
        ("nothing in common", "here at all", "nothing in common here at all"),
        ("", "only after", "only after"),
        ("only before", "", "only before"),
    ],
)
def test_words_in_the_overlap_are_said_once(before, after, whole):
    assert stitch(before, after, 1.0) == whole


def test_windows_without_overlap_are_kept_whole():
    assert stitch("no, no, no", "no, not yet", 0.0) == "no, no, no no, not yet"


def test_a_word_that_comes_again_far_from_the_seam_stays():
    before = "rain fell on the town for all of the long night and then it stopped"
    after = "rain fell again in the morning"
    assert stitch(before, after, 1.0) == f"{before} {after}"


def test_a_text_in_twenty_pieces_is_put_together_again():
    words = [f"word{n}" for n in range(200)]
    text, at = "", 0
    while at < len(words):
        piece = " ".join(words[max(0, at - 3) : at + 10])
        text = stitch(text, piece, 1.0) if text else piece
        at += 10
    assert text.split() == words


BEFORE = "and so the quick brown fox jumps over"


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        (" fox jumps over the lazy dog and then it sleeps all day", "the lazy dog and then it sleeps all day"),
        (" Jumps over it.", "it."),
        (" something else was said by now, all of it new", "something else was said by now, all of it new"),
        (" over", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 100])
def test_words_that_come_in_pieces_are_shown_without_what_was_shown_before(after, shown, size):
    seam = Seam(BEFORE, 1.0)
    pieces = [seam.push(after[at : at + size]) for at in range(0, len(after), size)]
    assert "".join([*pieces, seam.rest()]).strip() == shown


def test_after_a_window_that_was_not_full_words_are_shown_as_they_come():
    seam = Seam("", 1.0)
    assert [seam.push("one"), seam.push(" two"), seam.rest()] == ["one", " two", ""]


class Sayings(FakeCore):
    """Says another sentence of each window."""

    def __init__(self, *texts):
        super().__init__()
        self.texts = list(texts)

    def stream(self, audio, prompt, cancelled=lambda: False):
        self.asked.append(prompt)
        yield from re.findall(r"\s*\S+", self.texts[len(self.asked) - 1])


@pytest.mark.parametrize("skill", ["captions", "transcribe"])
def test_what_is_shown_and_what_is_kept_of_a_long_speech_says_nothing_twice(skill, profile, host, tmp_path):
    hearing = profile.hearing.model_copy(update={"max_window_s": 4.0})
    answer = profile.answer.model_copy(update={"speech": skill})
    history = profile.history.model_copy(update={"path": str(tmp_path / "history.db")})
    profile = profile.model_copy(update={"hearing": hearing, "answer": answer, "history": history})
    core = Sayings(
        "one two three four five", "four five six seven eight nine ten eleven", "Eleven, twelve and that is all"
    )
    events = []
    with HistoryWriter(profile, events.append) as keep:
        wave = np.concatenate((silence(1), tone(9), silence(2)))
        Session(ArraySource(wave), LoudIsVoice(), Turns(core, host, profile), keep).run()
    whole = "one two three four five six seven eight nine ten eleven twelve and that is all"
    answers = [event.response.text for event in events if isinstance(event, Responded)]
    assert len(answers) == 3
    assert " ".join(answers) == whole
    shown = ["".join(e.text for e in events if isinstance(e, TokenGenerated) and e.window == n) for n in (1, 2, 3)]
    assert " ".join(" ".join(shown).split()) == whole
    with HistoryStore(tmp_path / "history.db") as store:
        assert " ".join(turn.answer for turn in store.turns()) == whole


def test_a_sentence_that_is_said_again_after_a_silence_stays(profile, host):
    answer = profile.answer.model_copy(update={"speech": "captions"})
    profile = profile.model_copy(update={"answer": answer})
    wave = np.concatenate((silence(1), tone(1), silence(1.5), tone(1), silence(1.5)))
    events = []
    Session(ArraySource(wave), LoudIsVoice(), Turns(Sayings("no no", "no no"), host, profile), events.append).run()
    assert [event.response.text for event in events if isinstance(event, Responded)] == ["no no", "no no"]
