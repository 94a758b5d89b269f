"""Windows: when they open, what they hold, why they end."""

from itertools import pairwise

import numpy as np
import pytest

from assistant.audio.background import level_dbfs
from assistant.audio.segmenter import Segmenter
from assistant.audio.source import read_wave
from assistant.events import LevelMeasured, WindowClosed, WindowDropped, WindowOpened, WindowPaused, WindowResumed
from assistant.profile import HearingSettings
from assistant.records import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE, AudioWindow
from tests.conftest import ROOT, LoudIsVoice, NoVoice, silence, tone


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


def noise(seconds, level=0.01, seed=1):
    return (np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE)) * level).astype(np.float32)


def melody(seconds, level=0.1):
    """Notes of a quarter of a second, out of eight."""
    scale = 300.0 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    notes = np.random.default_rng(2).choice(scale, int(seconds * 4) + 1)
    return np.concatenate([tone(0.25, level, hertz) for hertz in notes])[: int(seconds * SAMPLE_RATE)]


class VoiceWithin:
    """Calls voiced what lies in the given seconds of the stream."""

    def __init__(self, *spans):
        self._spans, self._heard = spans, 0

    def is_speech(self, frame):
        self._heard += 1
        return any(start <= self._heard * FRAME_S < end for start, end in self._spans)


def test_silence_opens_nothing():
    assert not of(WindowOpened, hear(silence(20)))


def test_a_talker_who_pauses_gets_more_silence_before_the_turn_ends():
    steady = windows(hear(np.concatenate((silence(2), tone(1.5), silence(2)))))
    pausing = np.concatenate((silence(2), tone(1), silence(0.35), tone(1), silence(2)))
    assert [w.silence_s for w in steady] == [pytest.approx(0.8, abs=0.04)]
    assert [w.silence_s for w in windows(hear(pausing))] == [pytest.approx(1.0, abs=0.04)]
    assert [w.silence_s for w in windows(hear(pausing, patience_s=0))] == [pytest.approx(0.8, abs=0.04)]


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


def test_a_full_window_and_the_next_share_a_second():
    wave = np.concatenate((silence(1), tone(40), silence(2)))
    first, second = windows(hear(wave))
    assert (first.overlap_s, second.overlap_s) == (0.0, 0.99)
    shared = round(second.overlap_s * SAMPLE_RATE)
    np.testing.assert_array_equal(first.samples[-shared:], second.samples[:shared])


def test_silence_right_after_a_full_window_is_no_window():
    opened = hear(np.concatenate((silence(2), tone(27.2), silence(5))))
    assert [w.end for w in windows(opened)] == ["max_window"]
    assert [e.reason for e in of(WindowDropped, opened)] == ["too short"]


@pytest.mark.parametrize("seed", range(4))
def test_every_window_is_the_stretch_of_the_stream_that_it_says_it_is(seed):
    rng = np.random.default_rng(seed)
    makers = (silence, tone, melody, noise)
    wave = np.concatenate([makers[rng.integers(4)](float(rng.uniform(0.3, 9))) for _ in range(30)])
    found = windows(hear(wave, VoiceWithin(*((at, at + rng.uniform(0.5, 12)) for at in rng.uniform(0, 120, 8)))))
    assert len(found) > 5
    for before, window in zip([None, *found], found, strict=False):
        at = round(window.start_s * SAMPLE_RATE)
        np.testing.assert_array_equal(window.samples, wave[at : at + len(window.samples)])
        if before is not None and window.overlap_s:
            assert window.start_s + window.overlap_s == pytest.approx(before.start_s + before.duration_s)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.04])
def test_noise_that_was_there_from_the_first_moment_opens_nothing(level):
    assert not of(WindowOpened, hear(noise(120, level), NoVoice()))


@pytest.mark.parametrize("name", ["bell.flac", "drums.flac", "phone-number.wav"])
@pytest.mark.parametrize("voiced", [NoVoice, LoudIsVoice])
def test_a_file_that_begins_in_the_middle_of_a_sound_is_heard_from_its_beginning(name, voiced):
    first, *_rest = windows(hear(read_wave(ROOT / "examples" / name), voiced()))
    assert first.start_s == 0


def test_the_zeros_with_which_a_device_begins_are_no_noise_floor():
    assert not of(WindowOpened, hear(np.concatenate((np.zeros(8_000, np.float32), noise(60))), NoVoice()))


def test_a_fan_that_is_switched_on_is_told_once_and_is_background_from_then_on():
    found = windows(hear(np.concatenate((silence(5), noise(300, 0.02))), NoVoice()))
    assert [w.end for w in found] == ["steady"]


def test_music_that_goes_on_is_one_window_and_then_an_update_at_each_interval():
    wave = np.concatenate((silence(5), melody(200), silence(10)))
    items = hear(wave, NoVoice(), steady_update_s=60)
    found = windows(items)
    assert [opened.update for opened in of(WindowOpened, items)] == [False] + [True] * (len(found) - 1)
    assert [w.end for w in found[:-1]] == ["steady"] * (len(found) - 1)
    assert [w.kind for w in found] == ["sound"] * len(found)
    assert 3 <= len(found) <= 4
    assert all(later.start_s - w.start_s > 55 for w, later in pairwise(found))


def test_after_the_music_quiet_sounds_are_heard_again():
    wave = np.concatenate((silence(5), melody(30), silence(5), tone(1, 0.02), silence(3)))
    last = windows(hear(wave, NoVoice()))[-1]
    assert (last.kind, last.end) == ("sound", "silence")
    assert last.start_s == pytest.approx(40, abs=1)


def test_an_alarm_over_the_music_is_heard():
    wave = np.concatenate((silence(5), melody(40, 0.02), silence(0)))
    wave[30 * SAMPLE_RATE : 32 * SAMPLE_RATE] += tone(2, 0.5, 3100)
    assert any(w.start_s < 30 < w.start_s + w.duration_s for w in windows(hear(wave, NoVoice())))


def test_an_alarm_that_hardly_adds_to_a_rumble_is_heard_in_its_own_bands():
    rumble = np.cumsum(noise(60, 0.01))
    rumble -= np.convolve(rumble, np.full(1600, 1 / 1600), "same")
    rumble *= 0.05 / rumble.std()
    wave = rumble.astype(np.float32)
    wave[30 * SAMPLE_RATE : 31 * SAMPLE_RATE] += tone(1, 0.03, 3100)
    level = [level_dbfs(wave[at * SAMPLE_RATE : (at + 1) * SAMPLE_RATE]) for at in (20, 30)]
    assert abs(level[0] - level[1]) < 2.5
    (opened,) = of(WindowOpened, hear(wave, NoVoice()))
    assert opened.start_s == pytest.approx(30, abs=1)


def test_a_voice_that_is_no_louder_than_the_floor_is_background():
    assert not of(WindowOpened, hear(noise(60), VoiceWithin((1.5, 60))))


def test_people_far_behind_the_talker_do_not_hold_the_window_open():
    talk, behind = tone(3, 0.3), tone(60, 0.003, 700)
    wave = np.concatenate((silence(2), talk, behind))
    first = windows(hear(wave, VoiceWithin((0, 1e9))))[0]
    assert first.end == "silence"
    assert first.duration_s < 5


def test_a_pause_is_told_with_the_window_so_far_and_so_is_its_end():
    wave = np.concatenate((silence(2), tone(1), silence(0.4), tone(1), silence(2)))
    segmenter = Segmenter(HearingSettings(patience_s=0), LoudIsVoice(), "test")
    told, early = [], []
    for frame in wave[: len(wave) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES):
        for item in segmenter.feed(frame):
            if not isinstance(item, LevelMeasured):
                told.append(item)
            if isinstance(item, WindowPaused):
                early.append(segmenter.so_far())
    assert [type(item) for item in told] == [
        WindowOpened,
        WindowPaused,
        WindowResumed,
        WindowPaused,
        WindowClosed,
        AudioWindow,
    ]
    final = told[-1]
    assert {w.id for w in early} == {final.id}
    np.testing.assert_array_equal(early[-1].samples, final.samples[: len(early[-1].samples)])
    assert final.duration_s - early[-1].duration_s == pytest.approx(0.6, abs=0.031)


def test_there_is_nothing_so_far_when_nothing_is_open():
    assert Segmenter(HearingSettings(), NoVoice(), "test").so_far() is None


def test_a_word_that_begins_in_the_silence_of_the_last_window_is_whole_in_the_next():
    wave = np.concatenate((silence(2), tone(1), silence(0.6), tone(0.15), silence(0.1), tone(2), silence(2)))
    first, second = windows(hear(wave, VoiceWithin((2, 3), (3.85, 5.85))))
    assert first.end == "silence"
    assert second.start_s < 3.6
    assert second.overlap_s > 0


def test_speech_over_a_sound_gets_a_window_of_its_own_with_its_beginning():
    wave = np.concatenate((silence(2), melody(6), silence(2)))
    sound, speech, *_rest = windows(hear(wave, VoiceWithin((5, 7))))
    assert (sound.kind, sound.end, speech.kind) == ("sound", "speech", "speech")
    assert speech.start_s < 5 < sound.start_s + sound.duration_s


def test_a_sound_that_turns_out_to_be_a_voice_is_one_window():
    wave = np.concatenate((silence(2), melody(3), silence(2)))
    (speech,) = windows(hear(wave, VoiceWithin((2.3, 5))))
    assert speech.kind == "speech"
    assert speech.start_s < 2


def test_the_end_of_a_file_ends_the_window():
    (heard,) = windows(hear(np.concatenate((silence(1), tone(1)))))
    assert heard.end == "end_of_file"


@pytest.mark.parametrize("level", [0.0, 1e-9])
def test_digital_silence_has_a_level(level):
    assert level_dbfs(np.full(480, level, np.float32)) == -100.0


def test_a_short_word_in_a_loud_place_is_kept_by_a_profile_that_ignores_sounds():
    wave = np.concatenate((silence(2), melody(2), silence(2)))
    (heard,) = windows(hear(wave, VoiceWithin((2.1, 2.5)), sounds=False))
    assert heard.start_s < 2


def test_babble_behind_the_talker_ends_the_window_when_they_stop():
    rng = np.random.default_rng(5)
    syllables = np.repeat(rng.uniform(0.2, 1.0, 200), 1600)  # a level that moves, ten times a second
    wave = (tone(20, 0.02, 700) * syllables).astype(np.float32)
    wave[12 * SAMPLE_RATE : 15 * SAMPLE_RATE] += tone(3, 0.1)  # some 14 dB above it
    found = windows(hear(wave, VoiceWithin((0, 1e9))))
    talked = next(w for w in found if w.start_s < 12.2 and w.start_s + w.duration_s > 14.9)
    assert talked.end == "silence"
    assert talked.start_s + talked.duration_s == pytest.approx(15.9, abs=0.3)
