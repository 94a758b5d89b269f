"""Looking back: the strip, replay, ask again, why, saving, forgetting."""

import threading
from dataclasses import replace
from typing import get_args

import soundfile

from assistant.records import GenerationSettings, WindowEnd
from assistant.tui.screens import AskAgain, Confirm, EnterText, Why
from assistant.tui.widgets import StatusLine, TurnView, WindowStrip, WindowTile
from assistant.tui.wording import ENDED
from tests.conftest import FakeCore
from tests.screening import SAYINGS, app, shown, toasts, until

SIZE = (120, 44)


async def heard(pilot, screen, count=2):
    await until(pilot, lambda: sum("total" in shown_one(view) for view in screen.query(TurnView)) >= count)
    await until(pilot, lambda: screen.selected == count)


def shown_one(widget):
    return widget.render().plain if hasattr(widget.render(), "plain") else str(widget.render())


async def test_each_window_has_a_tile_and_arrows_and_mouse_select_it(profile):
    screen = app(profile, FakeCore("yes"), SAYINGS)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        tiles = list(screen.query(WindowTile))
        assert len(tiles) == 2
        assert "▶2 » speech" in shown_one(tiles[1])
        assert set("░▒▓█") & set(shown_one(tiles[1]))
        await pilot.press("left")
        await until(pilot, lambda: "▶1" in shown_one(tiles[0]))
        assert "▶" not in shown_one(tiles[1])
        await pilot.click("#window-2")
        await until(pilot, lambda: screen.selected == 2)


async def test_replay_turns_the_ears_off_until_it_ends_and_escape_stops_it(profile):
    playing, stopped = threading.Event(), threading.Event()

    def play(samples, stop):
        playing.set()
        while not stop():
            threading.Event().wait(0.01)
        stopped.set()

    screen = app(profile, FakeCore("yes"), SAYINGS, play=play)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("r")
        await until(pilot, lambda: "replaying, ears off" in shown(screen, StatusLine))
        assert playing.wait(2)
        assert screen.loop.session.muted.is_set()
        await pilot.press("escape")
        await until(pilot, lambda: not screen.loop.session.muted.is_set())
        assert stopped.is_set()


async def test_a_replay_leaves_a_muted_microphone_muted(profile):
    screen = app(profile, FakeCore("yes"), SAYINGS)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("m", "r")
        await until(pilot, lambda: "replaying" not in shown(screen, StatusLine))
        assert screen.loop.session.muted.is_set()


async def test_asking_again_with_another_skill_does_not_encode_again(profile):
    core = FakeCore("yes")
    screen = app(profile, core, SAYINGS)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("left", "a")
        await until(pilot, lambda: isinstance(screen.screen, AskAgain))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "asked again" in shown(screen, TurnView))
        await until(pilot, lambda: len(core.asked) == 3)
        assert core.encoded == 2
        assert len(screen.trail.windows[1].turns) == 2


async def test_a_question_of_ones_own_reaches_the_model_word_for_word(profile):
    core = FakeCore("yes")
    screen = app(profile, core, SAYINGS)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(screen.screen, AskAgain))
        await pilot.press(*"is it far", "enter")  # the list has the focus, and still it is what is asked
        await until(pilot, lambda: len(core.asked) == 3)
        assert core.asked[-1].instruction == "is it far"
        assert core.asked[-1].settings == GenerationSettings(names_first=True)  # and of no skill's settings
        await until(pilot, lambda: '-> "is it far"' in shown(screen, TurnView))


async def test_why_shows_an_answer_in_square_brackets(profile):
    screen = app(profile, FakeCore("[bell rings]"), SAYINGS)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(screen.screen, Why))
        await until(pilot, lambda: "[bell" in screen.export_screenshot().partition("Why:")[2])


async def test_why_explains_opening_end_prompt_and_times(profile):
    screen = app(profile, FakeCore("yes ", "it ", "is"), SAYINGS)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(screen.screen, Why))
        from assistant.tui.wording import why

        told = dict(why(screen.trail.windows[2]))
        assert "at least 0.2 s of voice" in told["opened"]
        assert "noise floor" in told["at that moment"]
        assert "it was quiet for 0.81 s" in told["ended"]
        assert told["prompt"] == "Answer the spoken question."
        assert told["LoRA scale"] == "1"
        assert "tokens a second (3 tokens)" in told["speed"]
        assert "by nobody" in told["claimed"]
        await pilot.press("w")
        await until(pilot, lambda: not isinstance(screen.screen, Why))


async def test_a_window_is_saved_only_when_asked_for_and_where_one_says(profile, tmp_path):
    screen = app(profile, FakeCore("yes"), SAYINGS)
    target = tmp_path / "kept" / "door.wav"
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        assert not list(tmp_path.rglob("*.wav"))
        await pilot.press("v")
        await until(pilot, lambda: isinstance(screen.screen, EnterText))
        screen.screen.query_one("Input").value = str(target)
        await pilot.press("enter")
        await until(pilot, lambda: "saved" in toasts(screen))
        samples, rate = soundfile.read(target)
        assert (rate, len(samples)) == (16_000, len(screen.heard.get(2).samples))
        await pilot.press("v")
        await until(pilot, lambda: isinstance(screen.screen, EnterText))
        screen.screen.query_one("Input").value = str(target)
        await pilot.press("enter")
        await until(pilot, lambda: "is there already" in toasts(screen))


async def test_a_deleted_window_is_gone_with_its_answers_and_its_audio_tokens(profile):
    stored = []
    screen = app(profile, FakeCore("yes"), SAYINGS, forget=stored.append)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("d")
        await until(pilot, lambda: len(screen.query(WindowTile)) == len(screen.query(TurnView)) == 1)
        assert screen.selected == 1
        assert stored == [2]
        assert list(screen.loop.turns.heard) == [1]
        assert len(screen.heard) == 1


def test_every_way_a_window_can_end_is_explained():
    assert set(ENDED) == set(get_args(WindowEnd))


async def test_at_any_width_the_selected_window_is_in_sight(profile):
    screen = app(profile, FakeCore("yes"), SAYINGS)

    def in_sight(number):
        tile = screen.query_one(WindowStrip).tile(number)
        return tile is not None and tile.region.overlaps(screen.query_one(WindowStrip).region)

    async with screen.run_test(size=(90, 32)) as pilot:
        await heard(pilot, screen)
        strip, window = screen.query_one(WindowStrip), screen.heard.get(2)
        for number in range(3, 8):
            strip.add(replace(window, id=number))
            strip.select(number)  # before it has its place
        await until(pilot, lambda: in_sight(7) and not in_sight(1))
        await pilot.resize_terminal(80, 30)
        await until(pilot, lambda: in_sight(7))
        await pilot.resize_terminal(110, 30)
        await until(pilot, lambda: in_sight(7))
        await pilot.resize_terminal(70, 30)
        await until(pilot, lambda: in_sight(7))


async def test_nobody_is_promised_an_answer_while_the_ears_are_off(profile):
    screen = app(profile, FakeCore("yes"), SAYINGS)
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("p")
        await until(pilot, lambda: "not listening | paused" in shown(screen, StatusLine))
        await pilot.press("t")
        await until(pilot, lambda: "listen again first" in toasts(screen))
        assert "talking" not in shown(screen, StatusLine)
        await pilot.press("p")
        await until(pilot, lambda: shown(screen, StatusLine).strip().startswith("listening"))


async def test_forgetting_everything_asks_first_and_calls_what_stores(profile):
    wiped = []
    screen = app(profile, FakeCore("yes"), SAYINGS, wipe=lambda: wiped.append(1) or "3 windows were forgotten")
    async with screen.run_test(size=SIZE) as pilot:
        await heard(pilot, screen)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: isinstance(screen.screen, Confirm))
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert not wiped
        assert len(screen.query(TurnView)) == 2
        await pilot.press("ctrl+x")
        await until(pilot, lambda: isinstance(screen.screen, Confirm))
        await pilot.press("enter")
        await until(pilot, lambda: not screen.query(TurnView) and not screen.query(WindowTile))
        assert wiped
        assert not screen.loop.turns.heard
        assert "3 windows were forgotten" in toasts(screen)
