"""The set and the arithmetic of the turn-taking benchmark."""

import argparse
import json

import numpy as np
import pytest
import soundfile

from assistant.errors import UserError
from assistant.profile import HearingSettings
from assistant.records import SAMPLE_RATE
from benchmarks.noises import STEADY, steady
from benchmarks.turn_set import Track, TurnSet, Utterance, voiced_steps
from benchmarks.turns import Window, cut_windows, false_opens, judge, measure, summary, table
from tests.conftest import ROOT, LoudIsVoice, silence, tone


def track(*spans, seconds=20.0, background="room"):
    said = tuple(Utterance("somebody", start, end, 0.0) for start, end in spans)
    return Track(background, None, np.zeros(int(seconds * SAMPLE_RATE), np.float32), said)


def faults(found):
    return [name for name in ("missed", "clipped", "cut", "merged") if getattr(found, name)]


def window(start, end, reason="silence", kind="speech"):
    return Window(start + 0.6, start, end, reason, kind)


def test_a_window_around_the_utterance_is_good():
    (found,) = judge(track((2, 4)), [window(1.5, 4.7)])
    assert faults(found) == []
    assert (found.onset_error_s, found.end_delay_s) == pytest.approx((0.1, 0.7))


@pytest.mark.parametrize(
    ("windows", "fault"),
    [
        ([], "missed"),
        ([window(3.4, 4.7)], "missed"),
        ([window(2.1, 4.7)], "clipped"),
        ([window(1.5, 3.5), window(3.5, 4.7)], "cut"),
        ([window(1.5, 9.0)], "merged"),
    ],
)
def test_each_fault_is_counted(windows, fault):
    found = judge(track((2, 4), (8, 10)), windows)[0]
    assert faults(found) == [fault]
    assert summary([found])[fault] == 1


def test_a_full_window_is_no_early_cut():
    (found,) = judge(track((2, 4)), [window(1.0, 3.0, "max_window"), window(2.0, 4.7)])
    assert not found.cut


def test_a_sound_is_a_false_open_in_steady_noise_only():
    sound, speech = window(1, 2, kind="sound"), window(3, 4)
    assert false_opens(track(background="fan"), [sound, speech]) == 2
    assert false_opens(track(background="music"), [sound, speech]) == 1


def test_windows_are_timed_as_they_are_in_the_track():
    wave = np.concatenate((silence(2), tone(1.5), silence(2)))
    (found,) = cut_windows(wave, HearingSettings(), LoudIsVoice())
    assert 1.1 < found.start_s < 2 < found.opened_s < 2.4
    assert found.end_s == pytest.approx(4.3, abs=0.06)


def test_a_click_is_not_the_onset_of_a_voice():
    wave = np.concatenate((silence(0.5), tone(0.01), silence(0.5), tone(1), silence(0.5)))
    voiced = np.flatnonzero(voiced_steps(wave))
    assert (voiced[0], voiced[-1] + 1) == pytest.approx((101, 201), abs=2)


@pytest.mark.parametrize("name", STEADY)
def test_steady_noises_are_steady(name):
    noise = steady(name, 20, np.random.default_rng(0)).reshape(20, -1)
    levels = 10 * np.log10(np.mean(noise**2, axis=1))
    assert np.ptp(levels) < 6


@pytest.fixture
def pack(tmp_path):
    for part in ("train", "dev"):
        (tmp_path / part).mkdir()
        speech, sound = [], []
        for n in range(12):
            soundfile.write(
                tmp_path / part / f"s{n}.wav", np.concatenate((silence(0.2), tone(1, 0.2, 300 + n))), 16_000
            )
            speech.append({"path": f"s{n}.wav", "duration_s": 1.2, "source": "test", "speaker": f"v{n}"})
            kind = {"kind": "music", "labels": []} if n % 2 else {"kind": "event", "labels": ["clock tick"]}
            sound.append({"path": f"s{n}.wav", "duration_s": 1.2} | kind)
        for kind, rows in (("speech", speech), ("sound", sound)):
            (tmp_path / part / f"{kind}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_the_same_seed_gives_the_same_set_and_another_seed_another(pack):
    one, again, other = (TurnSet(pack, "report", seed, 0.1).track(0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.samples, again.samples)
    assert one.utterances == again.utterances != other.utterances


def test_the_truth_is_where_the_voice_is(pack):
    heard = TurnSet(pack, "tune", 1, 0.1).track(0)
    for said in heard.utterances:
        middle = heard.samples[int((said.onset_s + 0.1) * SAMPLE_RATE) : int((said.end_s - 0.1) * SAMPLE_RATE)]
        before = heard.samples[int((said.onset_s - 0.3) * SAMPLE_RATE) : int((said.onset_s - 0.05) * SAMPLE_RATE)]
        assert np.std(middle) > 30 * np.std(before)


def test_the_published_table_is_what_the_published_measurement_says():
    results = json.loads((ROOT / "docs/turns.json").read_text())["results"]
    assert table(results) in (ROOT / "docs/turn-taking.md").read_text()


def test_a_run_that_was_cut_off_goes_on_and_one_of_another_gate_is_refused(pack, tmp_path):
    rows = tmp_path / "rows.jsonl"
    about = {"folder": pack, "half": "report", "seed": 1, "scale": 0.01, "set": [], "verbose": False, "resume": rows}
    arguments = argparse.Namespace(**about, presets=["normal"], detectors=["webrtc"])
    whole = measure(arguments)
    lines = rows.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + len(TurnSet(pack, "report", 1, 0.01))
    rows.write_text("".join(lines[:9]))
    assert measure(arguments) == whole
    arguments.seed = 2
    with pytest.raises(UserError, match="of another run"):
        measure(arguments)


def test_the_published_set_is_large_enough_for_what_is_said_of_it():
    results = json.loads((ROOT / "docs/turns.json").read_text())["results"]
    normal = next(r for r in results if (r["preset"], r["detector"]) == ("normal", "webrtc"))
    assert normal["at_10_db_or_better"]["opened"] >= 500
    assert normal["false_opens"]["steady noise"]["hours"] >= 3
