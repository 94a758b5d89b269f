"""Is this frame voiced? Detectors behind a one-method interface, so that tests can script the answer."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from assistant.profile import HearingSettings
from assistant.records import SAMPLE_RATE


class VoiceDetector(Protocol):
    def is_speech(self, frame: np.ndarray) -> bool:
        """Whether a frame of 30 ms, (480,) float32 at 16 kHz, is voiced."""
        ...


class WebRtcDetector:
    """Google's WebRTC detector.

    Args:
        aggressiveness: 0 (lets more through as speech) to 3.
    """

    def __init__(self, aggressiveness: int) -> None:
        import webrtcvad

        self._vad = webrtcvad.Vad(aggressiveness)

    def is_speech(self, frame: np.ndarray) -> bool:
        pcm = (np.clip(frame, -1.0, 1.0) * 32_767).astype("<i2").tobytes()
        return bool(self._vad.is_speech(pcm, SAMPLE_RATE))


def make_detector(settings: HearingSettings) -> VoiceDetector:
    """The detector that a profile chooses.

    Raises:
        UserError: its packages are not installed.
    """
    if settings.detector == "silero":
        from assistant.audio.silero import SileroDetector

        return SileroDetector(settings.silero_threshold)
    return WebRtcDetector(settings.aggressiveness)
