"""Profiles on the screen: said before they change anything, taken over while it listens, refused when invalid."""

import threading

import pytest

from assistant.errors import UserError
from assistant.plugin_host import PluginHost
from assistant.profile import load, user_folder
from assistant.profile_diff import changes, describe
from assistant.tui.screens import ChooseProfile, FirstRun
from assistant.tui.widgets import StatusLine, TurnView
from assistant.turns import Turns
from tests.conftest import FakeCore, silence, tone
from tests.screening import SAYINGS, HeldSource, app, shown, toasts, until


def changed(profile, section, **values):
    return profile.model_copy(update={section: getattr(profile, section).model_copy(update=values)})


def test_a_change_is_said_with_its_unit_and_its_cost(profile):
    slower = changed(profile, "hearing", end_silence_s=1.25)
    assert describe(profile, slower) == "end silence 0.8 to 1.25 s; no model reload"


def test_another_model_is_said_to_be_loaded_again(profile):
    other = changed(profile, "core", model="salmonn-13b")
    assert describe(profile, other) == (
        "model salmonn-tiny to salmonn-13b; the model is loaded again, the old one answers until then"
    )


def test_the_same_profile_changes_nothing(profile):
    assert describe(profile, profile) == "nothing changes; no model reload"


def test_plugin_settings_and_keys_are_named_with_their_owner(profile):
    new = profile.model_copy(update={"plugins": {"describe": {"brackets": True}}, "keys": {"mute": "f2"}})
    assert set(changes(profile, new)) == {"keys mute unset to f2", "plugins describe brackets unset to on"}


@pytest.fixture
def write():
    user_folder().mkdir(parents=True)

    def write(name, text):
        (user_folder() / f"{name}.yaml").write_text(text)

    return write


async def listening(pilot, screen):
    await until(pilot, lambda: "listening" in shown(screen, StatusLine))


async def test_choosing_a_profile_shows_what_changes_and_enter_switches(profile):
    screen = app(profile, FakeCore("yes"), silence(0.1), watched="default")
    async with screen.run_test(size=(200, 40)) as pilot:
        await listening(pilot, screen)
        assert "profile default (bundled)" in shown(screen, StatusLine)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(screen.screen, ChooseProfile))
        await pilot.press("up")
        await until(pilot, lambda: "speech spoken-qa to chat" in str(screen.screen.query_one("#changes").render()))
        assert screen.profile.name == "default"
        await pilot.press("enter")
        await until(pilot, lambda: "profile chat (bundled)" in shown(screen, StatusLine))
        assert screen.loop.turns.profile.answer.speech == "chat"


async def test_an_edit_of_the_file_is_taken_over_and_an_invalid_one_is_not(write):
    write("mine", "extends: default\n")
    screen = app(load("mine"), FakeCore("yes"), silence(0.1), watched="mine")
    async with screen.run_test(size=(200, 40)) as pilot:
        await listening(pilot, screen)
        assert "profile mine (yours)" in shown(screen, StatusLine)
        write("mine", "extends: default\nhearing: {end_silence_s: 1.25}\n")
        await until(pilot, lambda: screen.profile.hearing.end_silence_s == 1.25)
        assert "end silence 0.8 to 1.25 s; no model reload" in toasts(screen)
        await until(pilot, lambda: screen.loop.session._segmenter.settings.end_silence_s == 1.25)
        write("mine", "extends: default\nhearing: {end_silense_s: 2}\n")
        await until(pilot, lambda: "the running profile stays in force" in toasts(screen))
        assert "mine.yaml, line 2, hearing.end_silense_s" in toasts(screen)
        assert screen.profile.hearing.end_silence_s == 1.25


async def test_a_new_model_loads_while_the_old_one_answers(profile):
    loaded = threading.Event()
    old, new = FakeCore("old"), FakeCore("new")

    def load_turns(wanted, report):
        if wanted.core.model != "salmonn-tiny":
            assert loaded.wait(15)
        return Turns(old if wanted.core.model == "salmonn-tiny" else new, PluginHost(wanted, report), wanted)

    screen = app(profile, old, silence(0.1), load_turns=load_turns)
    async with screen.run_test(size=(200, 40)) as pilot:
        await listening(pilot, screen)
        screen._switch(changed(profile, "core", model="other"))
        await until(pilot, lambda: "loading other, salmonn-tiny answers until then" in shown(screen, StatusLine))
        screen.loop.source._after = tone(0.03)
        await until(pilot, lambda: "hearing" in shown(screen, StatusLine))
        await pilot.press("space")
        await until(pilot, lambda: "old" in shown(screen, TurnView))
        loaded.set()
        await until(pilot, lambda: "core other on cpu" in shown(screen, StatusLine))
        await until(pilot, lambda: "hearing" in shown(screen, StatusLine))
        await pilot.press("space")
        await until(pilot, lambda: "new" in shown(screen, TurnView))


async def test_a_model_that_does_not_load_leaves_the_old_one_in_force(profile):
    def load_turns(wanted, report):
        if wanted.core.model != "salmonn-tiny":
            raise UserError("no such model")
        return Turns(FakeCore("yes"), PluginHost(wanted, report), wanted)

    screen = app(profile, FakeCore(), silence(0.1), load_turns=load_turns)
    async with screen.run_test(size=(200, 40)) as pilot:
        await listening(pilot, screen)
        screen._switch(changed(profile, "core", model="other"))
        await until(pilot, lambda: "no such model" in toasts(screen))
        await until(pilot, lambda: "core salmonn-tiny on cpu" in shown(screen, StatusLine))


async def test_another_device_goes_on_with_the_numbers(profile):
    screen = app(profile, FakeCore("yes"), SAYINGS)
    async with screen.run_test(size=(200, 40)) as pilot:
        await until(pilot, lambda: screen.selected == 2)
        screen.use_device("3")
        await until(pilot, lambda: "device microphone 3" in shown(screen, StatusLine))
        await until(pilot, lambda: screen.selected == 3)


async def test_the_palette_finds_profiles_skills_devices_and_plugins(profile):
    screen = app(profile, FakeCore("yes"), silence(0.1))
    async with screen.run_test(size=(200, 40)) as pilot:
        await listening(pilot, screen)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: screen.microphones)
        titles = {command.title for command in screen.get_system_commands(screen.screen)}
        assert {"Profile: captions", "Skill for speech: transcribe", "Device: Headset", "Theme"} <= titles
        assert "Plugin: switch describe off" in titles


async def test_the_first_start_tests_the_microphone_and_writes_the_profile(profile):
    fetched = []

    def fetch(name, progress):
        progress("downloading", 1, 2)
        fetched.append(name)

    screen = app(
        profile,
        FakeCore("yes"),
        missing_weights=lambda: ["whisper-base"],
        fetch_weights=fetch,
        open_source=lambda wanted, profile: HeldSource(tone(1), tone(0.03), f"microphone {wanted}"),
    )
    screen._source = None
    async with screen.run_test(size=(110, 40)) as pilot:
        await until(pilot, lambda: isinstance(screen.screen, FirstRun))
        await until(pilot, lambda: "dBFS" in str(screen.screen.query_one("#level").render()))
        await pilot.press("down", "t")
        await until(pilot, lambda: "Good" in str(screen.screen.query_one("#verdict").render()))
        await pilot.press("u")
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        assert fetched == ["whisper-base"]
        assert load("default").hearing.input == "Headset"
