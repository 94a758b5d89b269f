"""Mute, pause and push to talk: what a person lets the session hear."""

import numpy as np
import pytest

from assistant import hookimpl
from assistant.audio.segmenter import Segmenter
from assistant.commands import listen
from assistant.commands.listen import openly
from assistant.events import DeviceStateChanged, EarsChanged, Responded, WindowClosed, WindowDropped, WindowOpened
from assistant.plugin_host import PluginState
from assistant.profile import HearingSettings
from assistant.records import FRAME_SAMPLES, AudioWindow
from assistant.session import Session
from assistant.tui.loop import Loop
from tests.conftest import ROOT, ArraySource, FakeCore, LoudIsVoice, NoVoice, silence, tone
from tests.screening import services


class Pressed(ArraySource):
    """A microphone at which somebody presses keys: (second, what is done) in order; `do` may be a device's change."""

    def __init__(self, wave, *presses):
        super().__init__(wave)
        self._presses, self.session = list(presses), None

    def frames(self, stopped):
        for number, frame in enumerate(super().frames(stopped)):
            while self._presses and self._presses[0][0] <= number * 0.03:
                _, do = self._presses.pop(0)
                if isinstance(do, DeviceStateChanged):
                    yield do
                else:
                    do(self.session)
            yield frame


def talk(session):
    session.toggle_talk()


@pytest.fixture
def hear(turns):
    def run(wave, *presses, detector=None, **hearing):
        turns.profile = turns.profile.model_copy(update={"hearing": turns.profile.hearing.model_copy(update=hearing)})
        source, events = Pressed(wave, *presses), []
        source.session = Session(source, detector or LoudIsVoice(), turns, events.append)
        source.session.run()
        return events

    return run


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


SAYINGS = np.concatenate((silence(1), tone(1), silence(2), tone(1), silence(2)))


def test_in_push_to_talk_nothing_opens_until_talk_is_pressed(hear):
    assert not of(WindowOpened, hear(SAYINGS, mode="push_to_talk"))


def test_from_one_press_to_the_next_is_one_window_whatever_is_silent_in_it(hear):
    events = hear(SAYINGS, (0.9, talk), (5.1, talk), mode="push_to_talk")
    (closed,) = of(WindowClosed, events)
    assert (closed.reason, closed.kind) == ("manual", "speech")
    assert (closed.start_s, closed.duration_s) == pytest.approx((0.9, 4.2), abs=0.04)
    assert len(of(Responded, events)) == 1


def test_in_push_to_talk_nothing_from_before_the_press_is_in_the_window():
    segmenter = Segmenter(HearingSettings(mode="push_to_talk"), LoudIsVoice(), "test")
    secret = tone(1.8).reshape(-1, FRAME_SAMPLES)
    assert not [item for frame in secret for item in segmenter.feed(frame) if isinstance(item, WindowOpened)]
    list(segmenter.hold())
    said = tone(0.9, hertz=700).reshape(-1, FRAME_SAMPLES)
    for frame in said:
        list(segmenter.feed(frame))
    (heard,) = [item for item in segmenter.flush("manual") if isinstance(item, AudioWindow)]
    np.testing.assert_array_equal(heard.samples, said.reshape(-1))


def test_a_soft_voice_that_opens_no_window_by_itself_is_answered_if_talk_was_pressed(hear):
    wave = np.concatenate((silence(1), tone(2, 0.001), silence(1)))
    assert not of(WindowOpened, hear(wave, detector=NoVoice()))
    assert len(of(Responded, hear(wave, (1, talk), (3, talk), detector=NoVoice(), mode="push_to_talk"))) == 1


def test_pressing_twice_without_a_word_on_a_muted_microphone_asks_nothing(hear):
    events = hear(np.zeros(48_000, np.float32), (1, talk), (2, talk), mode="push_to_talk")
    assert [event.reason for event in of(WindowDropped, events)] == ["nothing was heard"]
    assert not of(Responded, events)


def test_a_talk_of_more_than_a_window_goes_on_in_the_next_one(hear):
    closed = of(WindowClosed, hear(np.concatenate((silence(1), tone(40))), (1, talk), (38, talk), mode="push_to_talk"))
    assert [event.reason for event in closed] == ["max_window", "manual"]
    assert sum(event.duration_s for event in closed) == pytest.approx(38, abs=0.1)  # one second is in both


def test_in_the_open_mode_talk_keeps_the_window_open_over_silence(hear):
    closed = of(WindowClosed, hear(SAYINGS, (1.5, talk), (5.5, talk)))
    assert [event.reason for event in closed] == ["manual"]


def test_a_microphone_that_is_lost_while_talking_goes_on_when_it_is_back(hear):
    lost = DeviceStateChanged(state="reconnecting", device="array", reason="test")
    events = hear(SAYINGS, (0.9, talk), (2.5, lost), (5.1, talk), mode="push_to_talk")
    assert [event.reason for event in of(WindowClosed, events)] == ["device_lost", "manual"]


def test_mute_pause_and_talk_are_events_when_they_take_effect(hear):
    presses = [
        (0.3, lambda s: s.muted.set()),
        (0.6, lambda s: s.muted.clear()),
        (0.9, lambda s: s.paused.set()),
        (1.2, lambda s: s.paused.clear()),
        (1.5, talk),
        (1.8, talk),
    ]
    wanted = ["muted", "unmuted", "paused", "resumed", "talk_started", "talk_ended"]
    assert [event.change for event in of(EarsChanged, hear(SAYINGS, *presses))] == wanted


def test_a_pause_ends_the_open_window_and_nothing_is_heard_in_it(hear):
    wave = np.concatenate((silence(1), tone(6), silence(2)))
    events = hear(wave, (2, lambda s: s.paused.set()), (7.5, lambda s: s.paused.clear()))
    (closed,) = of(WindowClosed, events)
    assert closed.reason == "manual"
    assert closed.start_s + closed.duration_s == pytest.approx(2, abs=0.04)


def test_plugins_are_told_that_the_microphone_went_and_that_the_session_is_over(hear, host, turns):
    told = []

    class Witness:
        @hookimpl
        def error_raised(self, source, message):
            told.append((source, message))

        @hookimpl
        def session_stopped(self, session):
            told.append(("stopped", session.profile))

    host.register(Witness(), PluginState("witness", "", "", "witness", bundled=False))
    lost = DeviceStateChanged(state="reconnecting", device="headset", reason="it was unplugged or stopped")
    back = DeviceStateChanged(state="active", device="headset", reason="it is back")
    hear(SAYINGS, (5, lost), (5.5, back))
    turns.close()
    assert told == [
        ("microphone", "reconnecting: headset: it was unplugged or stopped"),
        ("stopped", "default"),
    ]


def test_a_file_is_heard_openly_whatever_the_profile_says(profile, capsys):
    pressed = profile.model_copy(update={"hearing": HearingSettings(mode="push_to_talk")})
    assert openly(pressed).hearing.mode == "open"
    assert "nobody presses" in capsys.readouterr().err
    assert openly(profile) is profile


class Last:
    """A plugin that notes the end of the session."""

    def __init__(self):
        self.stopped = 0

    @hookimpl
    def session_stopped(self):
        self.stopped += 1


def test_headless_listening_tells_plugins_that_it_is_over(turns, host, monkeypatch):
    last = Last()
    host.register(last, PluginState("last", "", "", "last", bundled=False))
    monkeypatch.setattr(listen, "make_turns", lambda profile, report: turns)
    listen.run(str(ROOT / "examples/phone-number.wav"), "default", None, as_json=True, safe=False)
    assert last.stopped == 1


def test_the_screen_tells_plugins_that_it_is_over(turns, host, profile):
    last = Last()
    host.register(last, PluginState("last", "", "", "last", bundled=False))
    parts = services(FakeCore(), load_turns=lambda profile, report: turns)
    Loop(profile, ArraySource(SAYINGS), parts, lambda event: None, lambda window: None).run()
    assert last.stopped == 1
