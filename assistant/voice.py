"""How long somebody has been talking, and how long they wait for their answer."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

from assistant.events import LevelMeasured
from assistant.records import FRAME_S, AudioWindow

REMEMBERED = 16
QUIETER_DB = 12.0  # voices so far below whoever is being answered are others in the room: they interrupt nobody


class Voice:
    """Fed from the ears' thread; `answered` and `delay_ms` are called from the answering one.

    Attributes:
        window: the window that is or was open last.
        voiced_s: how much of it was voiced so far, by voices that are about as loud as whoever spoke last.
    """

    def __init__(self) -> None:
        self.window, self.voiced_s = 0, 0.0
        self._voiced_power, self._voiced_frames = 0.0, 0
        self._last_talker_dbfs = -100.0
        self._ended: OrderedDict[int, float] = OrderedDict()
        self._delays: dict[int, float] = {}

    def open(self, window: int) -> None:
        self.window, self.voiced_s = window, 0.0
        self._voiced_power, self._voiced_frames = 0.0, 0

    def hear(self, level: LevelMeasured) -> None:
        """One frame."""
        if not level.voiced or level.open_kind is None:
            return
        self._voiced_power += 10 ** (level.level_dbfs / 10)
        self._voiced_frames += 1
        if level.level_dbfs > self._last_talker_dbfs - QUIETER_DB:
            self.voiced_s += FRAME_S

    def close(self, window: AudioWindow) -> None:
        """Remember when the talker of this window fell silent, and how loud they were.

        By the gate's own count, not the detector's last voiced frame: webrtcvad calls many a frame of silence voiced.
        """
        self._ended[window.id] = time.monotonic() - (window.silence_s if window.end == "silence" else 0.0)
        if window.kind == "speech" and self._voiced_frames:
            self._last_talker_dbfs = 10 * math.log10(self._voiced_power / self._voiced_frames)
        self.voiced_s = 0.0
        while len(self._ended) > REMEMBERED:
            oldest, _ = self._ended.popitem(last=False)
            self._delays.pop(oldest, None)

    def answered(self, window: int) -> None:
        """A token of this window's answer is shown now; only the first one counts."""
        if window in self._ended and window not in self._delays:
            self._delays[window] = 1000.0 * (time.monotonic() - self._ended[window])

    def delay_ms(self, window: int) -> float:
        """From the last active frame to the first token shown, or 0 if there was none."""
        return self._delays.get(window, 0.0)
