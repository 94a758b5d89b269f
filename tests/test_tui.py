"""The screen while it listens: what a person sees of hearing and answering, and the keys for it."""

import asyncio
import threading

import numpy as np
import pytest

from assistant.events import ErrorRaised, LevelMeasured
from assistant.tui.screens import Help
from assistant.tui.widgets import Caption, LevelMeter, StatusLine, TurnView, WindowStrip, WindowTile
from tests.conftest import FakeCore, silence, tone
from tests.screening import app, shown, toasts, until


async def test_what_was_heard_and_answered_is_on_the_screen(profile):
    screen = app(profile, FakeCore("a dog ", "barks"))
    async with screen.run_test(size=(200, 40)) as pilot:
        await until(pilot, lambda: "first token" in shown(screen, StatusLine))
        turn = shown(screen, TurnView)
        assert "a dog barks" in turn
        assert "» speech" in turn
        assert "ended by silence" in turn
        assert "spoken-qa" in turn
        assert "encode" in turn
        assert "total" in turn
        status = shown(screen, StatusLine)
        assert "profile default" in status
        assert "core salmonn-tiny on cpu, auto" in status
        assert "device array" in status
        assert "nothing is stored" in status


async def test_tokens_stream_in_before_the_answer_is_complete(profile):
    gate = threading.Event()
    core = FakeCore("first ", "second")
    core.between = lambda: gate.wait(20)
    screen = app(profile, core)
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "first" in shown(screen, TurnView))
        assert "second" not in shown(screen, TurnView)
        gate.set()
        await until(pilot, lambda: "second" in shown(screen, TurnView))


async def test_what_was_heard_stands_above_its_answer(profile):
    core = FakeCore("six")
    core.written = "how many eggs are left"
    screen = app(profile, core)
    async with screen.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "heard: how many eggs are left\nsix" in shown(screen, TurnView))


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


@pytest.mark.parametrize(("key", "word"), [("m", "muted"), ("p", "paused"), ("t", "talking")])
async def test_mute_pause_and_talk_are_said_and_taken_back(profile, key, word):
    screen = app(profile, FakeCore(), silence(1))
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        await pilot.press(key)
        await until(pilot, lambda: word in shown(screen, StatusLine))
        await pilot.press(key)
        await until(pilot, lambda: word not in shown(screen, StatusLine))


async def test_while_talking_silence_ends_no_window_and_the_second_press_does(profile):
    screen = app(profile, FakeCore("yes"), silence(0.1))
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        await pilot.press("t")
        screen.loop.source._after = tone(0.03)
        await until(pilot, lambda: "hearing" in shown(screen, StatusLine))
        screen.loop.source._after = silence(0.03)
        await pilot.pause(1.0)  # the loop runs some three times faster than real time: longer than the end silence
        assert not screen.query(TurnView)
        await pilot.press("t")
        await until(pilot, lambda: "ended by manual" in shown(screen, TurnView))


async def test_s_lets_another_skill_answer_speech(profile):
    screen = app(profile, FakeCore(), silence(1))
    async with screen.run_test(size=(200, 40)) as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        before = shown(screen, StatusLine)
        await pilot.press("s")
        await until(pilot, lambda: shown(screen, StatusLine) != before)
        assert f"answered by {screen.loop.turns.profile.answer.speech}" in shown(screen, StatusLine)


async def test_the_meter_says_level_floor_threshold_and_what_the_gate_thinks(profile):
    screen = app(profile, FakeCore(), silence(0.1))
    async with screen.run_test(size=(120, 30)):
        meter = screen.query_one(LevelMeter)
        level = LevelMeasured(
            level_dbfs=-20.0, noise_floor_dbfs=-62.0, threshold_dbfs=-47.0, voiced=True, open_kind="speech"
        )
        meter.show(level)
        said = str(meter.render())
        assert "-20 dBFS, floor -62" in said
        assert "threshold -47" in said
        assert "hearing speech" in said
        assert said.index("╎") < said.index("┃") < said.rindex("█")


async def test_f1_lists_every_key_as_it_is_bound(profile):
    screen = app(profile.model_copy(update={"keys": {"mute": "f2"}}), FakeCore(), silence(0.1))
    async with screen.run_test(size=(110, 50)) as pilot:
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(screen.screen, Help))
        assert "f2  Hear silence" in shown(screen, "Help Static")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(screen.screen, Help))


async def test_a_profile_can_move_a_key(profile):
    screen = app(profile.model_copy(update={"keys": {"mute": "f2"}}), FakeCore(), silence(0.1))
    async with screen.run_test() as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        await pilot.press("m")
        await pilot.pause(0.1)
        assert "muted" not in shown(screen, StatusLine)
        await pilot.press("f2")
        await until(pilot, lambda: "muted" in shown(screen, StatusLine))


async def test_captions_fill_the_screen_with_large_letters(profile):
    screen = app(profile, FakeCore("a dog barks"))
    async with screen.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: "a dog barks" in shown(screen, TurnView))
        await pilot.press("c")
        await until(pilot, lambda: len(shown(screen, Caption).splitlines()) > 5)
        assert not screen.query_one("#body").display
        await pilot.press("c")
        await until(pilot, lambda: screen.query_one("#body").display)


async def test_words_only_leaves_no_drawing(profile):
    screen = app(profile, FakeCore("yes"), after=tone(0.03, 0.001))
    async with screen.run_test(size=(110, 40)) as pilot:
        await until(pilot, lambda: bool(screen.query(WindowTile)))
        await pilot.press("x")
        await until(pilot, lambda: "window" in shown(screen, WindowTile))
        drawn = shown(screen, WindowTile) + shown(screen, LevelMeter)
        await until(pilot, lambda: not set("░▒▓█╎┃·") & set(shown(screen, WindowTile) + shown(screen, LevelMeter)))
        assert "speech" in drawn


@pytest.mark.parametrize(("width", "beside"), [(120, True), (70, False)])
async def test_the_strip_stands_beside_a_wide_conversation_and_below_a_narrow_one(profile, width, beside):
    screen = app(profile, FakeCore("yes"))
    async with screen.run_test(size=(width, 30)) as pilot:
        await until(pilot, lambda: bool(screen.query(WindowTile)))
        conversation, strip = screen.query_one("#conversation").region, screen.query_one(WindowStrip).region
        assert (strip.x >= conversation.right) == beside
        assert (strip.y >= conversation.bottom) != beside


async def test_errors_of_plugins_come_as_toasts_with_their_name(profile):
    screen = app(profile, FakeCore(), silence(0.1))
    async with screen.run_test() as pilot:
        screen._emit(ErrorRaised(source="weather", message="plugin weather failed in [shape_prompt]"))
        await until(pilot, lambda: "weather plugin weather failed in [shape_prompt]" in toasts(screen))


async def test_a_model_that_cannot_be_loaded_ends_the_screen_with_its_reason(profile):
    from assistant.errors import UserError

    def broken(profile, report):
        raise UserError("the weights are not here")

    screen = app(profile, FakeCore(), load_turns=broken)
    async with screen.run_test() as pilot:
        await until(pilot, lambda: screen.failure == "the weights are not here")


@pytest.mark.slow
async def test_a_long_session_loses_nothing_and_stays_bounded(profile):
    """Some ten minutes of sound: 180 sayings, answered as they come."""
    wave = np.concatenate([np.concatenate((tone(1), silence(2.3)))] * 180)
    core = FakeCore("yes")

    class Paced:
        name, live, end = "paced", False, "end_of_file"

        def frames(self, stopped):
            for frame in wave[: len(wave) // 480 * 480].reshape(-1, 480):
                if stopped():
                    return
                yield frame

        def dropped(self):
            return 0

    screen = app(profile, core)
    screen._source = Paced()
    async with screen.run_test(size=(100, 30)) as pilot:
        for _ in range(600):
            await asyncio.sleep(0.1)
            if "stopped: end of input" in shown(screen, StatusLine):
                break
        await pilot.pause(0.5)
        assert len(core.asked) == 180
        assert len(screen.trail.windows) == 180
        assert len(screen.query(WindowTile)) == len(screen.heard) <= 50
        assert screen.trail.windows[180].turns[0].responded is not None
