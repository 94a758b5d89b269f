"""Who says what is voiced: two detectors behind one method."""

import importlib.util

import numpy as np
import pytest

from assistant.audio.source import read_wave
from assistant.audio.vad import make_detector
from assistant.errors import UserError
from assistant.profile import HearingSettings
from assistant.records import FRAME_SAMPLES
from tests.conftest import ROOT, silence

have_silero = importlib.util.find_spec("silero_vad") is not None
DETECTORS = ["webrtc", pytest.param("silero", marks=pytest.mark.skipif(not have_silero, reason="extra silero absent"))]


def voiced_share(detector, wave):
    heard = make_detector(HearingSettings(detector=detector))
    frames = wave[: len(wave) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    return np.mean([heard.is_speech(frame) for frame in frames])


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_sentence_is_voiced_and_the_quiet_of_a_room_is_not(detector):
    assert voiced_share(detector, read_wave(ROOT / "examples/phone-number.wav")) > 0.4
    assert voiced_share(detector, silence(5)) < 0.05


@pytest.mark.skipif(not have_silero, reason="extra silero absent")
def test_silero_takes_a_bell_for_no_voice():
    assert voiced_share("silero", read_wave(ROOT / "examples/bell.flac")) < 0.2


def test_a_detector_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install silero-vad onnxruntime"):
        make_detector(HearingSettings(detector="silero"))
