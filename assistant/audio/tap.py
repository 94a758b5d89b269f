"""Who wants to hear exactly what the segmenter hears, after muting, listens at its detector."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from assistant.audio.vad import VoiceDetector
from assistant.records import FRAME_S

Hear = Callable[[np.ndarray], None]


class Tap:
    """A detector that passes each frame on to listeners before it judges it. Listeners must return at once."""

    def __init__(self, detector: VoiceDetector, *listeners: Hear) -> None:
        self._detector, self._listeners = detector, listeners

    def is_speech(self, frame: np.ndarray) -> bool:
        for hear in self._listeners:
            hear(frame)
        return self._detector.is_speech(frame)


class Memory:
    """The last seconds that were heard, as frames of (480,) float32, to cut closed windows from."""

    def __init__(self, seconds: float) -> None:
        self._frames: deque[np.ndarray] = deque(maxlen=round(seconds / FRAME_S))
        self._heard = 0

    def hear(self, frame: np.ndarray) -> None:
        self._frames.append(frame)
        self._heard += 1

    def cut(self, start_s: float, duration_s: float) -> np.ndarray | None:
        """That stretch of the stream as (n,) float32, or None if it is no longer remembered."""
        first = round(start_s / FRAME_S) - (self._heard - len(self._frames))
        last = first + round(duration_s / FRAME_S)
        if first < 0 or last > len(self._frames) or first == last:
            return None
        frames = list(self._frames)[first:last]
        return np.concatenate(frames)
