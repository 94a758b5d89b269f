"""The screen through Textual's pilot, on a fake core: what a person sees and what the keys do."""

import threading
import time

import numpy as np
import pytest

from assistant.events import LevelMeasured
from assistant.plugin_host import PluginHost
from assistant.tui.app import AssistantApp
from assistant.tui.widgets import LevelMeter, StatusLine, TurnView
from assistant.turns import Turns
from tests.conftest import ArraySource, FakeCore, LoudIsVoice, silence, tone

SAYING = np.concatenate((silence(1), tone(1), silence(1.5)))


class HeldSource(ArraySource):
    """Gives its sound, then stays open as a microphone does, in silence or with a voice that never ends."""

    def __init__(self, wave, after):
        super().__init__(wave, live=True)
        self._after = after

    def frames(self, stopped):
        yield from super().frames(stopped)
        while not stopped():
            yield self._after
            threading.Event().wait(0.01)


QUIET = np.zeros(480, np.float32)


def app(profile, core, wave=SAYING, after=QUIET):
    def make(profile, report):
        return Turns(core, PluginHost(profile, report), profile)

    return AssistantApp(profile, HeldSource(wave, after), make_turns=make, detector=LoudIsVoice())


async def until(pilot, condition):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        await pilot.pause(0.02)
        if condition():
            return
    raise AssertionError("it did not happen within twenty seconds")


def shown(app_, kind):
    return " ".join(str(widget.render()) for widget in app_.query(kind))


async def test_what_was_heard_and_answered_is_on_the_screen(profile):
    screen = app(profile, FakeCore("a dog ", "barks"))
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "a dog barks" in shown(screen, TurnView))
        turn = shown(screen, TurnView)
        assert "speech" in turn
        assert "ended by silence" in turn
        assert "spoken-qa" in turn
        await until(pilot, lambda: "first token" in shown(screen, StatusLine))
        assert "profile default" in shown(screen, StatusLine)


async def test_tokens_stream_in_before_the_answer_is_complete(profile):
    gate = threading.Event()
    core = FakeCore("first ", "second")
    core.between = lambda: gate.wait(3)
    screen = app(profile, core)
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "first" in shown(screen, TurnView))
        assert "second" not in shown(screen, TurnView)
        gate.set()
        await until(pilot, lambda: "second" in shown(screen, TurnView))


async def test_escape_cancels_the_answer_and_says_so(profile):
    core = FakeCore(*["word "] * 400)
    core.between = lambda: threading.Event().wait(0.01)
    screen = app(profile, core)
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "word" in shown(screen, TurnView))
        await pilot.press("escape")
        await until(pilot, lambda: "(cancelled)" in shown(screen, TurnView))


async def test_space_answers_now_without_waiting_for_silence(profile):
    screen = app(profile, FakeCore("yes"), silence(1), after=tone(0.03))
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "hearing speech" in shown(screen, StatusLine))
        await pilot.press("space")
        await until(pilot, lambda: "ended by manual" in shown(screen, TurnView))


async def test_mute_is_shown_and_unmute_takes_it_away(profile):
    screen = app(profile, FakeCore(), silence(1))
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        await pilot.press("m")
        await until(pilot, lambda: "muted" in shown(screen, StatusLine))
        await pilot.press("m")
        await until(pilot, lambda: "muted" not in shown(screen, StatusLine))


async def test_s_lets_another_skill_answer_speech(profile):
    screen = app(profile, FakeCore(), silence(1))
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        await pilot.press("s")
        await until(pilot, lambda: "speech answered by" in shown(screen, StatusLine))


@pytest.mark.parametrize(("level", "filled"), [(-100.0, 0), (-40.0, 20), (0.0, 40)])
async def test_the_meter_follows_the_level(profile, level, filled):
    screen = app(profile, FakeCore(), silence(0.1))
    async with screen.run_test():
        meter = screen.query_one(LevelMeter)
        values = {"noise_floor_dbfs": -100.0, "threshold_dbfs": -100.0, "voiced": False, "open_kind": None}
        meter.show(LevelMeasured(level_dbfs=level, **values))
        assert abs(str(meter.render()).count("█") - filled) <= 1


def test_the_finished_turn_looks_as_it_did(profile, snap_compare):
    class Frozen(AssistantApp):
        """Shows one finished turn without a loop, so that the picture has no clock in it."""

        def _run_loop(self):
            from assistant.events import Listening, Responded, TurnStarted, WindowClosed
            from assistant.records import Prompt, Response, Timings

            self._show_listening(Listening(source="microphone", profile="default", model="salmonn-tiny"))
            numbers = {"start_s": 1.0, "duration_s": 2.1, "level_dbfs": -20.0}
            self._show_closed(WindowClosed(window=1, kind="sound", reason="silence", **numbers))
            self.call_after_refresh(
                lambda: (
                    self._show_turn(TurnStarted(window=1, kind="sound", skill="describe", prompt="")),
                    self._show_response(
                        Responded(
                            response=Response("A dog barks.", "describe", Prompt(""), 1, Timings(60, 120, 400)),
                            audio_s=2.1,
                        )
                    ),
                )
            )

    screen = Frozen(profile, ArraySource(silence(0.1)), make_turns=lambda p, r: None, detector=LoudIsVoice())
    assert snap_compare(screen, terminal_size=(100, 20), run_before=lambda pilot: pilot.pause(0.3))
