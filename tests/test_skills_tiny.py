"""The skills with salmonn-tiny on real clips: what it can serve for. docs/skills.md has the numbers at length."""

import json
from functools import cache

import pytest

from tests.conftest import ROOT, SHARED, needs_shared

pytestmark = [pytest.mark.weights, needs_shared]
DEV = SHARED / "data/dev"


@pytest.fixture(scope="module", autouse=True)
def _one_model():
    """The model is loaded once for all of these."""
    from assistant import core

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "load_core", cache(core.load_core))
        yield


def clips(label):
    rows = [json.loads(line) for line in (DEV / "sound.jsonl").read_text().splitlines()]
    return [DEV / row["path"] for row in rows if label in row["labels"]]


def speech(beginning):
    rows = [json.loads(line) for line in (DEV / "speech.jsonl").read_text().splitlines()]
    return next(DEV / row["path"] for row in rows if row["text"].startswith(beginning))


def alerted(loop, paths):
    return sum(bool(loop.hear(path, skill="sound-alerts").actions) for path in paths)


def test_rain_and_a_baby_are_told_and_thunder_is_neither(assistant_loop):
    """9 of 9 clips of rain, 7 of 8 of babies; thunder is never either."""
    settings = {"alerts": {"Rain": {"words": ["rain"], "cooldown_s": 0}, "Baby": {"words": ["baby"], "cooldown_s": 0}}}
    loop = assistant_loop(core="tiny", settings={"sound-alerts": settings})
    assert alerted(loop, clips("rain")[:2]) >= 1
    assert alerted(loop, clips("crying baby")[:2]) >= 1
    assert alerted(loop, clips("thunder")[:2]) <= 1


def test_captions_tell_words_from_sounds(assistant_loop):
    loop = assistant_loop(core="tiny", profile="captions")
    heard = loop.hear(clips("rain")[0]).text
    assert heard.startswith("[")
    assert heard.endswith("]")
    said = loop.hear(speech("you don't mean")).text
    assert "you thought me" in said or "you think me" in said
    assert not said.startswith("[")


def test_a_phrase_heard_in_real_speech_wakes_and_other_speech_does_not(assistant_loop):
    loop = assistant_loop(core="tiny", settings={"wake": {"phrases": ["i really liked"], "open_s": 0.1}})
    assert loop.hear(speech("you don't mean")).actions == ()
    assert len(loop.hear(speech("i really liked")).actions) == 1


def test_a_record_is_valid_whatever_is_heard(assistant_loop):
    loop = assistant_loop(core="tiny", profile="home")
    for path in (speech("when is a lobster"), clips("rooster crow")[0]):
        record = loop.hear(path, skill="slot-filling").slots
        assert list(record) == list(loop.host.plugins["slot-filling"].settings.fields.properties)
        assert record["device type"] in (None, "timer", "lights", "note", "music")
        assert record["level"] is None or 0 <= record["level"] <= 100


def test_a_bell_or_a_rooster_is_described_and_what_was_that_hears_both(assistant_loop):
    loop = assistant_loop(core="tiny")
    bell, crow = (ROOT / f"examples/{name}.flac" for name in ("bell", "crow"))
    described = [loop.hear(path, skill="describe").text.lower() for path in (bell, crow)]
    assert "bell" in described[0] or "rooster" in described[1] or "crow" in described[1]
    was = loop.hear(1.0, skill="what-was-that")
    assert was.prompt.windows == (1, 2)
    assert was.text.endswith(".")
