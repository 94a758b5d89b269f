"""What plugins show, ask for, print and suffer, on the screen and without one; through real plugin files."""

import json
import os

import numpy as np
import pytest
import soundfile

from assistant.commands import listen
from assistant.errors import UserError
from assistant.events import ActionTaken, PanelsChanged, PluginDisabled, PluginReloaded
from assistant.plugin_host import PluginHost
from assistant.tui.palette import commands
from assistant.tui.screens import Panels, PluginOutput
from assistant.tui.widgets import PanelBoard, StatusLine, TurnView
from assistant.turns import Turns
from tests.conftest import FakeCore, silence, tone
from tests.screening import QUIET, SAYING, SAYINGS, app, shown, toasts, until

PLUGIN = """
from dataclasses import replace
from assistant import Notify, Panel, Record, Show, Write, hookimpl

@hookimpl
def consume_response(response, state):
    state["n"] = state.get("n", 0) + 1
    print("counted", state["n"])
    done = (
        Show("a second look"), Notify("Doorbell", "somebody is there"), Write("seen.txt", "x"),
        Record("visit", {"who": "the postman", "minutes": 5}),
    )
    return replace(response, actions=done)

@hookimpl
def panels(state):
    return [
        Panel("Visits", (("who", "when"), ("the postman", "12 s"), ("Jo", "7 s"))),
        Panel("Today", ((str(state.get("n", 0)),),)),
        Panel("Note", (("ring twice",), ("or knock",))),
    ]
"""
FAILING = """
from assistant import hookimpl

@hookimpl
def window_heard():
    raise ValueError("no door here")
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "plugins"
    made.mkdir()
    return made


def with_plugin(profile, folder, text=PLUGIN):
    """The sounds of these tests come faster than any answer, so nothing may interrupt."""
    (folder / "door.py").write_text(text)
    hearing = profile.hearing.model_copy(update={"barge_in_s": 0.0})
    return profile.model_copy(update={"plugin_folders": (folder,), "hearing": hearing})


async def answered(pilot, screen):
    await until(pilot, lambda: "total" in shown(screen, TurnView))


async def test_actions_stand_in_their_turn_and_a_record_is_a_table(profile, folder, tmp_path):
    screen = app(with_plugin(profile, folder), FakeCore("yes"))
    async with screen.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "record: visit" in shown(screen, TurnView))
        turn = shown(screen, TurnView)
        assert "\n  a second look\n" in turn
        assert "\n  notified: Doorbell: somebody is there\n" in turn
        assert f"\n  written to {tmp_path / 'data' / 'seen.txt'}\n" in turn
        assert "\n    who      the postman\n    minutes  5\n" in turn
        assert "Doorbell somebody is there" in toasts(screen)


async def test_panels_stand_beside_a_wide_conversation_as_table_badge_and_text(profile, folder):
    screen = app(with_plugin(profile, folder), FakeCore("yes"))
    async with screen.run_test(size=(120, 40)) as pilot:
        assert not screen.query_one(PanelBoard).display
        await until(pilot, lambda: "Note" in shown(screen, "#panels Static"))
        told = shown(screen, "#panels Static")
        assert "Visits\nwho          when\nthe postman  12 s\nJo           7 s" in told
        assert "Today: 1\n" in told
        assert "Note\nring twice\nor knock" in told
        board, beside = screen.query_one(PanelBoard), screen.query_one("#conversation")
        await until(pilot, lambda: board.region.x >= beside.region.right)


async def test_on_a_narrow_screen_a_key_opens_the_panels_and_they_go_on_changing(profile, folder):
    screen = app(with_plugin(profile, folder), FakeCore("yes"))
    async with screen.run_test(size=(80, 24)) as pilot:
        await answered(pilot, screen)
        assert not screen.query_one(PanelBoard).region.area
        await pilot.press("b")
        await until(pilot, lambda: isinstance(screen.screen, Panels))
        await until(pilot, lambda: "Today: 1  of door" in shown(screen, "#all-panels"))
        screen.show(PanelsChanged(panels=(("door", "Today", (("2",),)),)))
        await until(pilot, lambda: "Today: 2  of door" in shown(screen, "#all-panels"))
        screen.show(PanelsChanged(panels=()))
        await until(pilot, lambda: "No plugin shows anything" in shown(screen, "#all-panels"))
        await pilot.press("b")
        await until(pilot, lambda: not isinstance(screen.screen, Panels))


async def test_a_panel_that_goes_away_leaves_the_screen(profile, folder):
    text = PLUGIN.replace("    return [\n", "    if state['n'] > 1:\n        return []\n    return [\n")
    screen = app(with_plugin(profile, folder, text), FakeCore("yes"), SAYINGS)
    async with screen.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: screen.selected == 2)
        await until(pilot, lambda: not screen.query_one(PanelBoard).display)
        assert not screen.panels


async def test_what_a_plugin_prints_is_in_the_output_view_and_nowhere_else(profile, folder):
    screen = app(with_plugin(profile, folder), FakeCore("yes"), SAYINGS)
    async with screen.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: any("counted 2" in line for line in screen.plugin_log))
        assert "counted" not in shown(screen, TurnView) + toasts(screen)
        found = [command for command in commands(screen) if command.title == "Plugin output"]
        found[0].callback()
        await until(pilot, lambda: isinstance(screen.screen, PluginOutput))
        await until(pilot, lambda: "door  counted 1" in "\n".join(screen.screen.query_one("Log").lines))
        screen.show(PluginReloaded(plugin="door"))
        await until(pilot, lambda: "read again" in "\n".join(screen.screen.query_one("Log").lines))


async def test_an_output_view_without_output_says_so(profile):
    screen = app(profile, FakeCore("yes"), silence(0.1))
    async with screen.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(screen.screen, PluginOutput))
        assert "No plugin has printed" in screen.screen.query_one("Log").lines[0]


async def test_a_saved_plugin_is_read_again_and_a_toast_names_it(profile, folder, monkeypatch):
    monkeypatch.setattr("assistant.plugin_host.REFRESH_S", 0.0)
    screen = app(with_plugin(profile, folder), FakeCore("yes"), SAYING, after=tone(0.03))
    async with screen.run_test(size=(120, 40)) as pilot:
        await answered(pilot, screen)
        os.utime(folder / "door.py", (1, 1))
        await pilot.press("space")
        await until(pilot, lambda: "plugin door was read again its file was saved" in toasts(screen))


async def test_three_strikes_are_toasts_and_the_palette_switches_the_plugin_on_again(profile, folder):
    wave = np.concatenate((SAYING, SAYING, SAYING))
    screen = app(with_plugin(profile, folder, FAILING), FakeCore("yes"), wave)
    async with screen.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "plugin door is off for this session" in toasts(screen))
        assert "plugin door failed in window_heard: ValueError: no door here" in toasts(screen)
        assert "switched off after 3 failures" in toasts(screen)
        assert "Plugin: switch door on" in toasts(screen)
        titles = {command.title: command for command in commands(screen)}
        titles["Plugin: switch door on again"].callback()
        state = screen.loop.turns.host.plugins["door"]
        await until(pilot, lambda: state.disabled is None and "plugin door is on" in toasts(screen))
        assert state.strikes == 0


async def test_a_plugin_that_is_switched_off_takes_its_skills_with_it_and_brings_them_back(profile):
    screen = app(profile, FakeCore("yes"), SAYING, after=QUIET)
    async with screen.run_test(size=(120, 40)) as pilot:
        await answered(pilot, screen)
        host = screen.loop.turns.host
        screen.switch_plugin("spoken-qa", "switched off by you")
        await until(pilot, lambda: "plugin spoken-qa is off, with its skills" in toasts(screen))
        assert "spoken-qa" not in host.skills
        with pytest.raises(UserError, match=r"no skill 'spoken-qa'.*plugins that are off: spoken-qa"):
            host.skill("spoken-qa")
        window = screen.loop.turns.heard[1].window
        (dropped,) = screen.loop.turns.answer(window)
        assert dropped.reason == "the skill spoken-qa is switched off"
        screen.loop.turns.switch(profile.model_copy(update={"description": "edited meanwhile"}))
        host = screen.loop.turns.host
        assert "spoken-qa" not in host.skills
        screen.switch_plugin("spoken-qa", None)
        await until(pilot, lambda: "spoken-qa" in host.skills)
        host.calls.disable(host.plugins["spoken-qa"], "it failed")
        screen.switch_plugin("spoken-qa", None)  # whose skills it had kept
        await until(pilot, lambda: host.plugins["spoken-qa"].disabled is None)
        assert host.plugins["spoken-qa"].strikes == 0
        assert "spoken-qa" in host.skills


async def test_a_disabled_plugin_whose_reason_nobody_has_read_is_told_with_it(profile):
    screen = app(profile, FakeCore(), silence(0.1))
    async with screen.run_test() as pilot:
        screen.show(PluginDisabled(plugin="weather", reason="hangs"))
        await until(pilot, lambda: "plugin weather is off for this session hangs" in toasts(screen))


async def test_escape_codes_of_a_plugin_reach_no_terminal(profile):
    screen = app(profile, FakeCore("yes"))
    async with screen.run_test(size=(120, 40)) as pilot:
        await answered(pilot, screen)
        values = {"name": "x", "a\x1b[2J": "b\x1b[31m"}
        screen.show(ActionTaken(window=1, skill="spoken-qa", kind="record", values=values))
        screen.show(PanelsChanged(panels=(("door", "T\x1b[2J", (("\x1b[1m",),)),)))
        await until(pilot, lambda: "record: x" in shown(screen, TurnView) and screen.panels)
        assert "\x1b" not in shown(screen, TurnView) + shown(screen, "#panels Static")


def test_the_headless_loop_shows_the_same_as_text_and_as_json(profile, folder, tmp_path, monkeypatch, capsys):
    core = FakeCore("yes")
    monkeypatch.setattr(listen, "make_turns", lambda chosen, report: Turns(core, PluginHost(chosen, report), chosen))
    monkeypatch.setattr(listen.signal, "signal", lambda *_: None)
    (folder / "door.py").write_text(PLUGIN)
    (tmp_path / "mine.yaml").write_text(f"extends: default\nplugin_folders: [{folder}]\n")
    soundfile.write(tmp_path / "a.wav", SAYING, 16_000)
    listen.run(str(tmp_path / "a.wav"), str(tmp_path / "mine.yaml"), None, as_json=False, safe=False)
    said = capsys.readouterr()
    assert "  record: visit\n    who      the postman\n    minutes  5\n" in said.out
    assert "  a second look\n" in said.out
    assert "  | who          when\n  | the postman  12 s\n" in said.out
    assert "plugin door printed: counted 1" in said.err
    listen.run(str(tmp_path / "a.wav"), str(tmp_path / "mine.yaml"), None, as_json=True, safe=False)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = {event["event"]: event for event in events}
    assert kinds["panels"]["panels"][1] == ["door", "Today", [["1"]]]
    assert kinds["plugin_printed"]["text"] == "counted 1"
    actions = [event for event in events if event["event"] == "action"]
    assert [event["kind"] for event in actions] == ["show", "notify", "write", "record"]
    assert actions[3]["values"] == {"name": "visit", "who": "the postman", "minutes": 5}
