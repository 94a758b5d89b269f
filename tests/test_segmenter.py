"""Windows: when they open, what they hold, why they end."""

import numpy as np
import pytest

from assistant.audio.background import level_dbfs
from assistant.audio.segmenter import Segmenter
from assistant.events import WindowClosed, WindowDropped, WindowOpened
from assistant.profile import HearingSettings
from assistant.records import FRAME_SAMPLES, AudioWindow
from tests.conftest import LoudIsVoice, NoVoice, silence, tone


def hear(wave, detector=None, **settings):
    segmenter = Segmenter(HearingSettings(**settings), detector or LoudIsVoice(), "test")
    items = []
    for frame in wave[: len(wave) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES):
        items += segmenter.feed(frame)
    return [*items, *segmenter.flush("end_of_file")]


def windows(items):
    return [item for item in items if isinstance(item, AudioWindow)]


def of(kind, items):
    return [item for item in items if isinstance(item, kind)]


def test_silence_opens_nothing():
    assert not of(WindowOpened, hear(silence(20)))


def test_a_voice_opens_a_speech_window_that_silence_ends():
    (heard,) = windows(hear(np.concatenate((silence(2), tone(1.5), silence(2)))))
    assert (heard.kind, heard.end) == ("speech", "silence")


def test_the_first_word_is_whole_because_of_the_pre_roll():
    (heard,) = windows(hear(np.concatenate((silence(2), tone(1.5), silence(2)))))
    assert heard.start_s < 2.0
    voiced_from = int((2.0 - heard.start_s) * 16_000)
    assert level_dbfs(heard.samples[:voiced_from]) < -60
    assert level_dbfs(heard.samples[voiced_from : voiced_from + 800]) > -20


def test_a_sound_that_is_no_voice_opens_a_sound_window():
    (heard,) = windows(hear(np.concatenate((silence(2), tone(1), silence(2))), NoVoice()))
    assert heard.kind == "sound"


def test_a_profile_without_sounds_ignores_them():
    assert not windows(hear(np.concatenate((silence(2), tone(1), silence(2))), NoVoice(), sounds=False))


def test_a_click_is_dropped_and_the_drop_is_told():
    items = hear(np.concatenate((silence(2), tone(0.09), silence(2))), NoVoice(), sound_start_s=0.06, min_active_s=0.2)
    assert not windows(items)
    assert [e.reason for e in of(WindowDropped, items)] == ["too short"]


def test_a_long_speech_is_flushed_before_thirty_seconds():
    closed = of(WindowClosed, hear(np.concatenate((silence(1), tone(70), silence(2)))))
    assert closed[0].reason == "max_window"
    assert all(c.duration_s <= 28.1 for c in closed)
    assert sum(c.duration_s for c in closed) > 70


def test_a_steady_noise_stops_opening_windows_once_the_floor_has_risen():
    opened = [e.start_s for e in of(WindowOpened, hear(np.concatenate((silence(2), tone(120, 0.02))), NoVoice()))]
    assert len(opened) <= 2
    assert all(start < 60 for start in opened)


def test_the_end_of_a_file_ends_the_window():
    (heard,) = windows(hear(np.concatenate((silence(1), tone(1)))))
    assert heard.end == "end_of_file"


@pytest.mark.parametrize("level", [0.0, 1e-9])
def test_digital_silence_has_a_level(level):
    assert level_dbfs(np.full(480, level, np.float32)) == -100.0
