"""Every key of the screen and of what opens over it does what it says; a key without a test fails here."""

import threading

import pytest
from textual.binding import Binding
from textual.command import CommandPalette
from textual.screen import ModalScreen

import assistant.tui.screens as over
from assistant.keys import ACTIONS
from assistant.tui.screens import (
    AskAgain,
    ChooseProfile,
    Confirm,
    EnterText,
    FirstRun,
    Help,
    Panels,
    PluginOutput,
    Why,
)
from assistant.tui.trail import WindowStory
from assistant.tui.widgets import StatusLine, TurnView, WindowTile
from tests.conftest import FakeCore, tone
from tests.screening import SAYINGS, HeldSource, app, shown, toasts, until

SIZE = (200, 44)
CHECKS = {}


def key(action):
    """Registers what shall be true after that action's key was pressed, when two windows have been answered."""

    def register(check):
        CHECKS[action] = check
        return check

    return register


@key("previous_window")
async def _(pilot, screen):
    await pilot.press("left")
    await until(pilot, lambda: screen.selected == 1)


@key("next_window")
async def _(pilot, screen):
    await pilot.press("left", "right")
    await until(pilot, lambda: screen.selected == 2)


def opens(action, pressed, kind):
    @key(action)
    async def _(pilot, screen):
        await pilot.press(pressed)
        await until(pilot, lambda: isinstance(screen.screen, kind))


opens("ask_again", "a", AskAgain)
opens("why", "w", Why)
opens("panels", "b", Panels)
opens("plugin_output", "l", PluginOutput)
opens("switch_profile", "o", ChooseProfile)
opens("command_palette", "ctrl+p", CommandPalette)
opens("help", "f1", Help)


@key("replay")
async def _(pilot, screen):
    await pilot.press("r")
    await until(pilot, screen.played.is_set)


@key("save")
async def _(pilot, screen):
    await pilot.press("v")
    await until(pilot, lambda: isinstance(screen.screen, EnterText))


@key("next_skill")
async def _(pilot, screen):
    before = screen.loop.turns.profile.answer.speech
    await pilot.press("s")
    await until(pilot, lambda: screen.loop.turns.profile.answer.speech != before)


@key("mute")
async def _(pilot, screen):
    await pilot.press("m")
    await until(pilot, screen.loop.session.muted.is_set)
    await pilot.press("m")
    await until(pilot, lambda: not screen.loop.session.muted.is_set())


@key("pause")
async def _(pilot, screen):
    await pilot.press("p")
    await until(pilot, screen.loop.session.paused.is_set)
    await pilot.press("p")
    await until(pilot, lambda: not screen.loop.session.paused.is_set())


@key("captions")
async def _(pilot, screen):
    await pilot.press("c")
    await until(pilot, lambda: not screen.query_one("#body").display)
    await pilot.press("c")
    await until(pilot, lambda: screen.query_one("#body").display)


@key("plain")
async def _(pilot, screen):
    await pilot.press("x")
    await until(pilot, lambda: "window 1 speech" in shown(screen, WindowTile))
    await pilot.press("x")
    await until(pilot, lambda: "window 1" not in shown(screen, WindowTile))


@key("cancel")
async def _(pilot, screen):
    screen.loop.turns.cancel.clear()
    await pilot.press("escape")
    await until(pilot, screen.loop.turns.cancel.is_set)


@key("delete")
async def _(pilot, screen):
    await pilot.press("d")
    await until(pilot, lambda: len(screen.query(WindowTile)) == 1)


@key("talk")
async def _(pilot, screen):
    await pilot.press("t")
    await until(pilot, screen.loop.session.talking.is_set)
    await until(pilot, lambda: "talking" in shown(screen, StatusLine))
    await pilot.press("t")
    await until(pilot, lambda: not screen.loop.session.talking.is_set())


@key("cut")
async def _(pilot, screen):
    screen.loop.source._after = tone(0.03)
    await until(pilot, lambda: "hearing" in shown(screen, StatusLine))
    await pilot.press("space")
    await until(pilot, lambda: "ended by manual" in shown(screen, TurnView))


@key("wipe")
async def _(pilot, screen):
    screen.plugin_log.append("what was heard")
    await pilot.press("ctrl+x")
    await until(pilot, lambda: isinstance(screen.screen, Confirm))
    await pilot.press("enter")
    await until(pilot, lambda: not screen.query(WindowTile) and not screen.query(TurnView))
    assert not screen.plugin_log


@key("quit")
async def _(pilot, screen):
    await pilot.press("q")
    await until(pilot, lambda: screen._exit)


def test_every_key_has_a_test():
    assert set(CHECKS) == set(ACTIONS)


async def test_each_key_does_what_it_says(profile):
    hearing = profile.hearing.model_copy(update={"barge_in_s": 0.0})
    played = threading.Event()
    screen = app(
        profile.model_copy(update={"hearing": hearing}),
        FakeCore("yes"),
        SAYINGS,
        play=lambda samples, stopped: played.set(),
    )
    screen.played = played
    async with screen.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen.selected == 2 and shown(screen, TurnView).count("total") == 2)
        for action, check in CHECKS.items():
            try:
                await check(pilot, screen)
            except AssertionError as error:
                error.add_note(f"the key of {action}")
                raise
            if len(screen.screen_stack) > 1:
                await pilot.press("escape")
                await until(pilot, lambda: len(screen.screen_stack) == 1)


async def test_before_anything_was_heard_the_keys_for_windows_break_nothing(profile):
    screen = app(profile, FakeCore("yes"), tone(0.0))
    async with screen.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        for action in ("replay", "ask_again", "why", "save", "delete", "previous_window", "next_window", "cut"):
            await pilot.press(ACTIONS[action].key)
        await until(pilot, lambda: toasts(screen).count("No window is selected") == 5)
        await until(pilot, lambda: "No window is open" in toasts(screen))
        assert len(screen.screen_stack) == 1
        assert screen.selected is None


def modal(kind, profile):
    """One of what opens over the conversation."""
    story = WindowStory(1, profile.hearing, profile.name)
    makers = {
        AskAgain: lambda: AskAgain(1, []),
        ChooseProfile: lambda: ChooseProfile(profile),
        Confirm: lambda: Confirm("Sure?", "text"),
        EnterText: lambda: EnterText("Where?", "a.wav"),
        Help: lambda: Help({name: known.key for name, known in ACTIONS.items()}),
        Panels: lambda: Panels(()),
        PluginOutput: lambda: PluginOutput(()),
        Why: lambda: Why(story),
    }
    return makers[kind]()


def bindings_that_close():
    for name in over.__all__:
        kind = getattr(over, name)
        if isinstance(kind, type) and issubclass(kind, ModalScreen) and kind is not FirstRun:
            for binding in kind.BINDINGS:
                assert isinstance(binding, Binding)
                assert binding.action.startswith("dismiss"), f"{name}: test {binding.key} by itself"
                yield from ((kind, pressed) for pressed in binding.key.split(","))


async def test_what_opens_over_the_conversation_closes_by_its_keys(profile):
    screen = app(profile, FakeCore(), tone(0.0))
    async with screen.run_test(size=SIZE) as pilot:
        for kind, pressed in bindings_that_close():
            screen.push_screen(modal(kind, profile))
            await until(pilot, lambda kind=kind: isinstance(screen.screen, kind) and screen.screen.is_mounted)
            await pilot.press(pressed)
            await until(pilot, lambda: len(screen.screen_stack) == 1)


@pytest.mark.parametrize("pressed", ["t", "u", "l", "q"])
async def test_the_keys_of_the_first_start(profile, pressed):
    looked = []

    def microphones():
        looked.append(1)
        return fakes.microphones()

    fakes = app(profile, FakeCore()).services
    screen = app(
        profile,
        FakeCore("yes"),
        microphones=microphones,
        open_source=lambda wanted, profile: HeldSource(tone(1), tone(0.03)),
    )
    screen._source = None
    async with screen.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: isinstance(screen.screen, FirstRun) and screen.screen._chosen)
        await until(pilot, lambda: "dBFS" in str(screen.screen.query_one("#level").render()))
        first = screen.screen
        await pilot.press("m", pressed)  # the conversation's own keys are not there yet
        assert not screen._muted
        expected = {
            "t": lambda: "Good" in str(first.query_one("#verdict").render()),
            "u": lambda: "listening" in shown(screen, StatusLine),
            "l": lambda: len(looked) == 2,
        }
        await until(pilot, expected.get(pressed, lambda: screen._exit))


def test_the_first_start_has_no_other_keys():
    bound = {pressed for binding in FirstRun.BINDINGS for pressed in binding.key.split(",")}
    assert bound == {"t", "u", "l", "q", "escape"}
