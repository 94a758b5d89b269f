"""The status line at every width: shortened by priority, never without the state, the device or what is kept."""

import pytest
from rich.cells import cell_len

from assistant.tui.widgets import StatusLine
from assistant.tui.widgets.status import ROWS, fit, forms
from tests.conftest import FakeCore, tone
from tests.screening import app, shown, until

PARTS = {
    "state": ("listening",),
    "ears": forms("ears", "talking: press again to be answered"),
    "away": forms("away", "microphone reconnecting"),
    "device": forms("device", "USB Audio Device with a long name (hw:1,0)"),
    "privacy": ("text and sound kept here for 30 days", "text+sound kept"),
    "profile": forms("profile", "storyteller (bundled)"),
    "skill": forms("skill", "storytelling"),
    "core": ("core salmonn-tiny on cpu, auto", "salmonn-tiny", ""),
    "latency": ("end 710 ms · first token 1300 ms !slow", "first token 1300 ms !slow", ""),
    "selected": forms("selected", "12"),
}


def row(width, *names):
    return fit([(name, PARTS[name]) for name in names or PARTS], width)


@pytest.mark.parametrize("width", range(84, 260, 8))
def test_one_row_fits_and_keeps_what_must_not_be_lost(width):
    said = row(width)
    assert cell_len(said) <= width
    for word in ("listening", "talking", "reconnecting", "USB", "sound kept"):
        assert word in said


@pytest.mark.parametrize("names", ROWS)
def test_two_rows_fit_on_forty_columns(names):
    quiet = [name for name in names if name not in ("ears", "away")]
    assert cell_len(row(40, *quiet)) <= 40


def test_with_room_everything_is_said_in_full():
    said = row(400)
    assert all(said.count(values[0]) for values in PARTS.values())


@pytest.mark.parametrize(("width", "rows"), [(120, 1), (90, 1), (80, 1), (60, 2), (45, 2)])
async def test_the_screen_gives_it_one_row_and_two_at_the_narrowest(profile, width, rows):
    screen = app(profile, FakeCore(), tone(0.0))
    async with screen.run_test(size=(width, 24)) as pilot:
        await until(pilot, lambda: "listening" in shown(screen, StatusLine))
        await until(pilot, lambda: screen.query_one(StatusLine).region.height == rows)
        said = shown(screen, StatusLine)
        assert "array" in said
        assert "stored" in said
