"""Answers that are begun at a pause, and people who talk on: a live source in real time, a scripted model."""

import time

import numpy as np
import pytest

from assistant.events import Responded, TokenGenerated, TurnStarted, WindowClosed
from assistant.records import FRAME_S
from assistant.session import Session
from assistant.turns import Turns
from tests.conftest import ArraySource, FakeCore, LoudIsVoice, silence, tone


class RealTime(ArraySource):
    """Frames when a microphone would give them."""

    def frames(self, stopped):
        begun = time.monotonic()
        for number, frame in enumerate(super().frames(stopped), 1):
            time.sleep(max(0.0, begun + number * FRAME_S - time.monotonic()))
            yield frame


@pytest.fixture
def live(profile, host):
    def run(parts, core=None, **hearing):
        chosen = profile.model_copy(update={"hearing": profile.hearing.model_copy(update=hearing)})
        wave = np.concatenate(parts)
        events = []
        turns = Turns(core or FakeCore(), host, chosen)
        session = Session(RealTime(wave, live=True), LoudIsVoice(), turns, events.append)
        session.run()
        return events, turns

    return run


def answers(events):
    return [event.response for event in events if isinstance(event, Responded)]


class Slow(FakeCore):
    """Needs 0.3 s before its first word, as a model does."""

    def encode(self, samples):
        time.sleep(0.3)
        return super().encode(samples)


def test_an_answer_is_there_when_the_silence_is_over(live):
    early, turns = live([silence(0.9), tone(0.9), silence(1.4)], Slow(), speculate_after_s=0.2)
    late, _ = live([silence(0.9), tone(0.9), silence(1.4)], Slow(), speculate_after_s=0.0)
    (hurried,), (patient,) = answers(early), answers(late)
    assert hurried.text == patient.text == "hello there"
    assert patient.timings_ms.end_delay > 950
    assert 600 < hurried.timings_ms.end_delay < patient.timings_ms.end_delay - 200
    assert turns.core.encoded == 1
    closed = next(i for i, event in enumerate(early) if isinstance(event, WindowClosed))
    said = next(i for i, event in enumerate(early) if isinstance(event, (TurnStarted, TokenGenerated)))
    assert said > closed  # nothing is said before the window is over


def test_an_answer_that_was_begun_too_early_is_never_seen(live, host):
    events, turns = live([silence(0.9), tone(0.9), silence(0.4), tone(0.9), silence(1.5)], speculate_after_s=0.2)
    (answer,) = answers(events)
    assert turns.core.encoded == 2
    assert len([event for event in events if isinstance(event, TurnStarted)]) == 1
    assert len(turns.past) == 1
    assert turns.heard[answer.window_id].window.duration_s > 2.2


def test_the_whole_window_is_what_plugins_see_of_an_early_answer(live, host):
    from assistant import hookimpl
    from assistant.plugin_host import PluginState

    seen = []

    class Witness:
        @hookimpl
        def window_heard(self, window):
            seen.append(("heard", round(window.duration_s, 1)))

        @hookimpl
        def consume_response(self, window):
            seen.append(("consumed", round(window.duration_s, 1)))

    host.register(Witness(), PluginState("witness", "", "", "witness", bundled=False))
    events, _ = live([silence(0.9), tone(0.9), silence(1.2)], speculate_after_s=0.2)
    closed = next(event for event in events if isinstance(event, WindowClosed))
    assert seen == [("heard", round(closed.duration_s, 1)), ("consumed", round(closed.duration_s, 1))]


class Talkative(FakeCore):
    """A long answer, a word each 20 ms."""

    def __init__(self, words=200):
        super().__init__(*["word "] * words)
        self.between = lambda: time.sleep(0.02)


def test_talking_on_cancels_the_answer_and_a_cough_does_not(live):
    talked = [silence(0.9), tone(0.9), silence(1.0), tone(1.2), silence(1.0)]
    (first, *_) = answers(live(talked, Talkative())[0])
    assert first.end == "superseded"
    coughed = [silence(0.9), tone(0.9), silence(1.0), tone(0.3), silence(3.5)]
    (first, *_) = answers(live(coughed, Talkative())[0])
    assert first.end == "done"


def test_a_voice_far_softer_than_whoever_asked_cancels_nothing(live):
    behind = [silence(0.9), tone(0.9, 0.3), silence(1.0), tone(1.2, 0.04), silence(3.0)]
    (first, *_) = answers(live(behind, Talkative())[0])
    assert first.end == "done"


def test_what_goes_on_past_a_full_window_does_not_cost_its_answer(live):
    """Music, or somebody who talks for long: the window was cut in the middle, and nobody has lost interest."""
    full = [silence(0.9), tone(5.0), silence(3.0)]
    first, *_ = answers(live(full, Talkative(60), max_window_s=2.5, pre_roll_s=0.3, overlap_s=0.0)[0])
    assert first.end == "done"
    assert first.text.count("word") == 60


def test_barge_in_can_be_switched_off(live):
    talked = [silence(0.9), tone(0.9), silence(1.0), tone(1.2), silence(3.5)]
    assert {a.end for a in answers(live(talked, Talkative(), barge_in_s=0.0)[0])} == {"done"}


def test_escape_cancels_within_a_tenth_of_a_second(profile, host):
    wave = np.concatenate([silence(0.9), tone(0.9), silence(2.5)])
    events = []
    turns = Turns(Talkative(), host, profile)
    cancelled = []

    def emit(event):
        events.append(event)
        if isinstance(event, TokenGenerated) and not cancelled:
            cancelled.append(time.monotonic())
            session.cancel()

    session = Session(RealTime(wave, live=True), LoudIsVoice(), turns, emit)
    session.run()
    answer = next(event for event in events if isinstance(event, Responded))
    assert answer.response.end == "cancelled"
    assert answer.t - cancelled[0] < 0.1


def test_a_file_is_never_answered_early(profile, host):
    events = []
    core = FakeCore()
    wave = np.concatenate([silence(0.9), tone(0.9), silence(0.4), tone(0.9), silence(1.2)])
    Session(ArraySource(wave), LoudIsVoice(), Turns(core, host, profile), events.append).run()
    assert core.encoded == 1
    assert answers(events)[0].timings_ms.end_delay == 0.0
