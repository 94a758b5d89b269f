"""How the screen looks, as pictures: a scripted session without clocks, microphones or threads that answer."""

import re
import threading

import numpy as np
import pytest
from textual.widgets import Input

from assistant.events import (
    ActionTaken,
    DeviceStateChanged,
    ErrorRaised,
    LevelMeasured,
    Listening,
    PanelsChanged,
    Responded,
    TokenGenerated,
    TurnStarted,
    WindowClosed,
    WindowOpened,
)
from assistant.records import AudioWindow, Prompt, Response, Timings
from assistant.tui.messages import WindowHeard
from assistant.tui.screens import FirstRun, Why
from assistant.tui.widgets import Conversation, StatusLine, TurnView, WindowTile
from tests.conftest import FakeCore, tone
from tests.screening import app, shown, until
from tests.snapshots import check, words

WIDE, NARROW = (120, 32), (80, 24)


class NothingHeard:
    """A microphone from which no frame ever comes: all that happens is what the test says."""

    name, live, end = "array", True, "device_lost"

    def frames(self, stopped):
        while not stopped():
            threading.Event().wait(0.02)
        yield from ()

    def dropped(self):
        return 0


LEVEL = LevelMeasured(level_dbfs=-31.0, noise_floor_dbfs=-62.0, threshold_dbfs=-47.0, voiced=True, open_kind="speech")
PANELS = PanelsChanged(panels=(("sound-alerts", "Alerts", (("sound", "last heard at"), ("Doorbell", "12 s"))),))


def answered(window, kind, skill, text, timings, **more):
    """The events of one window."""
    yield WindowOpened(window=window, kind=kind, start_s=4.0 * window)
    yield LEVEL
    yield WindowClosed(
        window=window,
        kind=kind,
        reason="silence",
        start_s=4.0 * window,
        duration_s=1.5,
        level_dbfs=-20.0,
        silence_s=0.8,
    )
    yield TurnStarted(window=window, kind=kind, skill=skill, prompt="Answer the spoken question.")
    yield TokenGenerated(window=window, text=text)
    response = Response(text, skill, Prompt("Answer the spoken question."), window, timings, tokens=6, **more)
    yield Responded(response=response, audio_s=1.5, hook_ms={"wake.claim_window": 2.0, "chat.shape_prompt": 0.1})


def script():
    yield Listening(source="array", profile="default", model="salmonn-tiny")
    yield from answered(1, "speech", "spoken-qa", "It is noon.", Timings(62, 127, 455, 710, 3))
    slots = {"device": "timer", "duration": "PT5M"}
    yield from answered(2, "speech", "slot-filling", "timer", Timings(70, 1311, 1622, 1911, 4), slots=slots)
    yield ActionTaken(window=2, skill="slot-filling", kind="record", values={"name": "home"} | slots)
    yield ActionTaken(window=2, skill="slot-filling", kind="write", values={"path": "home.jsonl"})
    yield from answered(3, "sound", "describe", "A dog barks.", Timings(60, 120, 300, 700, 2))
    yield LEVEL
    yield PANELS


async def play(pilot, screen):
    """Everything has happened and is drawn."""
    await until(pilot, lambda: screen.loop and screen.loop.turns)
    for event in script():
        screen.show(event)
    for number, kind in ((1, "speech"), (2, "speech"), (3, "sound")):
        samples = np.concatenate((tone(0.5, hertz=200.0 * number), tone(1.0, 0.05, 900.0)))
        screen.post_message(WindowHeard(AudioWindow(number, samples, kind, 4.0 * number, "silence", -20.0, "array")))
    await until(pilot, lambda: screen.selected == 3 and len(screen.query(WindowTile)) == 3 and screen.panels)
    await settled(pilot)


async def settled(pilot):
    """Nothing has changed on the screen for a while."""
    pictures = []

    def still():
        pictures.append(pilot.app.export_screenshot(simplify=True))
        return len(pictures) >= 10 and len(set(pictures[-10:])) == 1

    await until(pilot, still)


def quiet(profile):
    screen = app(profile, FakeCore())
    screen._source = NothingHeard()
    screen.NOTIFICATION_TIMEOUT = 600  # toasts stay for as long as a loaded machine takes
    return screen


@pytest.fixture
def scripted(profile):
    return quiet(profile)


@pytest.mark.parametrize(("name", "size"), [("conversation", WIDE), ("narrow", NARROW)])
async def test_the_conversation_looks_as_it_did(scripted, tmp_path, name, size):
    async with scripted.run_test(size=size) as pilot:
        await play(pilot, scripted)
        check(scripted, name, tmp_path)


@pytest.mark.parametrize(("name", "key"), [("why", "w"), ("help", "f1"), ("captions", "c"), ("panels", "b")])
async def test_what_a_key_opens_looks_as_it_did(scripted, tmp_path, name, key):
    async with scripted.run_test(size=WIDE) as pilot:
        await play(pilot, scripted)
        await pilot.press(*(("left",) if name == "why" else ()), key)
        await settled(pilot)
        assert isinstance(scripted.screen, Why) or name != "why"
        check(scripted, name, tmp_path)


async def test_the_palette_looks_as_it_did(scripted, tmp_path):
    async with scripted.run_test(size=WIDE) as pilot:
        await play(pilot, scripted)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: scripted.screen.query(Input))
        scripted.screen.query_one(Input).cursor_blink = False
        await pilot.press(*"plugin o")
        await settled(pilot)
        check(scripted, "palette", tmp_path)


async def test_an_error_and_a_lost_microphone_look_as_they_did(scripted, tmp_path):
    async with scripted.run_test(size=NARROW, notifications=True) as pilot:
        await play(pilot, scripted)
        lost = "the device is gone; it is used again as soon as it is back"
        scripted.show(DeviceStateChanged(state="unavailable", device="array", reason=lost))
        scripted.show(ErrorRaised(source="weather", message="plugin weather failed in shape_prompt: KeyError: 'sky'"))
        await settled(pilot)
        check(scripted, "error", tmp_path)


async def test_the_conversation_follows_its_end_until_the_person_scrolls_away(scripted):
    def show(window):
        for event in answered(window, "speech", "describe", "A dog barks.", Timings(60, 120, 300, 700, 2)):
            scripted.show(event)
            yield

    async with scripted.run_test(size=NARROW) as pilot:
        await until(pilot, lambda: scripted.loop and scripted.loop.turns)
        turns = scripted.query_one(Conversation)
        for window in range(1, 8):
            for _ in show(window):
                await pilot._wait_for_screen()  # laid out, and not yet scrolled: what a busy machine lets be seen
        await until(pilot, lambda: turns.max_scroll_y > 10 and turns.is_vertical_scroll_end)
        turns.scroll_to(y=3, animate=False)
        await until(pilot, lambda: turns.scroll_y == 3)
        end = turns.max_scroll_y
        assert list(show(8))
        await until(pilot, lambda: turns.max_scroll_y > end)
        assert turns.scroll_y == 3
        end = turns.max_scroll_y
        turns.scroll_end(animate=False)
        await until(pilot, lambda: turns.is_vertical_scroll_end)
        assert list(show(9))
        await until(pilot, lambda: turns.max_scroll_y > end and turns.is_vertical_scroll_end)


async def test_the_first_start_looks_as_it_did(profile, tmp_path):
    screen = app(profile, FakeCore(), open_source=lambda wanted, profile: NothingHeard())
    screen._source = None
    async with screen.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(screen.screen, FirstRun) and screen.screen._chosen)
        await settled(pilot)
        check(screen, "first-start", tmp_path)


async def test_what_is_slow_is_marked_and_not_only_red(scripted):
    async with scripted.run_test(size=WIDE) as pilot:
        await play(pilot, scripted)
        slow = shown(scripted, "#turn-2-1")
        assert "first token 1311 ms !slow" in slow
        assert "end 1911 ms ·" in slow  # the silence that the profile asks for
        assert "total 1622 ms !" not in slow  # as long as the answer
        assert "!slow" not in shown(scripted, "#turn-1-1")
        red = [span for span in scripted.query_one("#turn-2-1", TurnView).render().spans if "red" in str(span.style)]
        text = shown(scripted, "#turn-2-1")
        assert red
        assert all(text[span.start : span.end].endswith("!slow") for span in red)


async def test_without_colours_the_screen_says_the_same(profile, monkeypatch):
    """Every mark is a word or a sign; `NO_COLOR` leaves nothing but shades of grey."""

    async def picture():
        screen = quiet(profile)
        async with screen.run_test(size=WIDE, notifications=True) as pilot:
            await play(pilot, screen)
            screen.show(DeviceStateChanged(state="reconnecting", device="array", reason="unplugged"))
            await until(pilot, lambda: "microphone reconnecting" in shown(screen, StatusLine))
            await settled(pilot)
            return screen.export_screenshot(simplify=True)

    with_colours = await picture()
    monkeypatch.setenv("NO_COLOR", "1")
    without = await picture()
    assert words(without) == words(with_colours)
    assert "warning: microphone reconnecting" in "\n".join(words(without))
    assert not coloured(without)
    assert coloured(with_colours)


def coloured(svg):
    """The hues of the text; #c5c8c6 is the exporter's own, of blanks that no widget has drawn."""
    found = set(re.findall(r"fill: #(\w\w)(\w\w)(\w\w)", svg)) - {("c5", "c8", "c6")}
    return [hue for hue in found if len(set(hue)) > 1]
