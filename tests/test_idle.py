"""What idle listening costs, as the program measures it, and as it is published."""

import json

import pytest

from benchmarks.idle import TARGET_SHARE, measure
from tests.conftest import ROOT


@pytest.mark.slow
def test_an_hour_of_idle_listening_is_cheap_keeps_its_memory_and_loses_no_window():
    hour = measure("webrtc", 1.0)
    assert hour.core_share < TARGET_SHARE
    assert hour.growth_mb < 5
    assert (hour.sounds, hour.lost) == (6, 0)


def test_the_published_day_kept_to_the_target():
    rows = json.loads((ROOT / "docs/idle.json").read_text())
    day = next(row for row in rows if row["detector"] == "webrtc")
    assert day["hours"] == 24
    assert day["core_share"] < TARGET_SHARE
    assert day["sounds"] == day["windows"]
    assert f"{day['core_share']:.2%}" in (ROOT / "docs/turn-taking.md").read_text()


def test_what_the_whole_program_costs_is_published_as_measured():
    published = (ROOT / "docs/turn-taking.md").read_text()
    for cost in json.loads((ROOT / "docs/idle-program.json").read_text()):
        assert cost["seconds"] >= 120
        assert f"{cost['core_share']:.2%}" in published
