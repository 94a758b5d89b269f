"""From windows to answers: order, timing, cancelling, one failing window among good ones."""

import threading

import numpy as np

from assistant.errors import UserError
from assistant.events import (
    ErrorRaised,
    Listening,
    Responded,
    Stopped,
    TokenGenerated,
    Transcribed,
    TurnStarted,
    WindowClosed,
)
from assistant.session import Session
from assistant.turns import Turns
from tests.conftest import ArraySource, FakeCore, LoudIsVoice, silence, tone, window

TWO_SAYINGS = np.concatenate((silence(1), tone(1), silence(1.5), tone(1), silence(1.5)))


def listen(turns, wave=TWO_SAYINGS, live=False):
    events = []
    Session(ArraySource(wave, live), LoudIsVoice(), turns, events.append).run()
    return events


def names(events, *kinds):
    return [e.name for e in events if isinstance(e, kinds)]


def answered_window(event):
    return event.response.window_id if isinstance(event, Responded) else None


def test_every_window_is_answered_and_the_events_are_in_order(turns):
    events = listen(turns)
    wanted = (Listening, WindowClosed, TurnStarted, TokenGenerated, Responded, Stopped)
    for number in (1, 2):
        mine = [
            e
            for e in events
            if number in (getattr(e, "window", None), getattr(getattr(e, "response", None), "window_id", None))
        ]
        assert names(mine, *wanted) == ["window_closed", "turn_started", "token", "token", "response"]
    assert names(events, Listening, Stopped) == ["listening", "stopped"]


def test_the_answer_carries_text_prompt_and_growing_timings(turns):
    response = next(e.response for e in listen(turns) if isinstance(e, Responded))
    assert response.text == "hello there"
    assert response.prompt.instruction == "Answer the spoken question."
    timings = response.timings_ms
    assert 0 <= timings.encode <= timings.first_token <= timings.total


def test_the_words_that_were_written_down_first_are_told_before_the_answer(turns, core):
    core.written = "how many eggs are left"
    asking = turns.profile.generation.model_copy(update={"words_first": True})
    turns.profile = turns.profile.model_copy(update={"generation": asking})
    events = list(turns.answer(window()))
    kinds = [e.name for e in events if isinstance(e, (Transcribed, TokenGenerated, Responded))]
    assert kinds == ["transcript", "token", "token", "response"]
    assert next(e.text for e in events if isinstance(e, Transcribed)) == "how many eggs are left"
    responded = next(e for e in events if isinstance(e, Responded))
    assert responded.response.words == responded.as_dict()["words"] == "how many eggs are left"


def test_cancelling_keeps_what_was_said_and_says_so(turns, core):
    core.words = ["one ", "two ", "three "]
    core.between = turns.cancel.set
    response = next(e.response for e in turns.answer(window()) if isinstance(e, Responded))
    assert (response.text, response.end) == ("one", "cancelled")


def test_an_error_in_one_turn_does_not_stop_the_loop(host, profile):
    class Failing(FakeCore):
        def encode(self, samples):
            super().encode(samples)
            if self.encoded == 1:
                raise UserError("the model stumbled")

    events = listen(Turns(Failing(), host, profile))
    assert [e.message for e in events if isinstance(e, ErrorRaised)] == ["the model stumbled"]
    assert len(names(events, Responded)) == 1


def test_a_file_loses_no_window_however_slow_the_model_is(turns, core):
    many = np.concatenate([np.concatenate((tone(0.6), silence(1.2))) for _ in range(8)])
    core.between = lambda: threading.Event().wait(0.02)
    assert len(names(listen(turns, many), Responded)) == 8


def test_stopping_ends_the_session_with_its_reason(turns):
    events = []
    session = Session(ArraySource(np.tile(TWO_SAYINGS, 50)), LoudIsVoice(), turns, events.append)
    turns.core.between = lambda: session.stop("test is over")
    session.run()
    assert events[-1].reason == "test is over"


def test_a_question_of_the_users_own_is_asked_as_it_is(turns, core):
    list(turns.answer(window(), None, "How many dogs?"))
    assert core.asked[0].instruction == "How many dogs?"


def test_a_question_to_the_storyteller_is_no_story(turns, core, host):
    list(turns.answer(window(), host.skill("storytelling"), "How many dogs?"))
    settings = core.asked[0].settings
    assert (settings.heard_first, settings.min_new_tokens, settings.names_first) == (False, 0, True)


def test_what_the_model_hears_decides_who_answers_not_the_speech_detector(turns, core):
    core.hears = "sound"
    started = next(e for e in turns.answer(window(kind="speech")) if isinstance(e, TurnStarted))
    assert (started.kind, started.skill) == ("sound", "describe")


def test_a_profile_that_ignores_sounds_drops_what_the_model_hears_as_one(core, host, profile):
    core.hears = "sound"
    hearing = profile.hearing.model_copy(update={"sounds": False})
    (event,) = Turns(core, host, profile.model_copy(update={"hearing": hearing})).answer(window())
    assert event.reason == "no speech, and the profile ignores sounds"
    assert not core.asked
