"""How long somebody has been talking, and how long they wait for their answer."""

from __future__ import annotations

import time
from collections import OrderedDict

from assistant.events import LevelMeasured
from assistant.records import FRAME_S

REMEMBERED = 16


class Voice:
    """Fed from the ears' thread; `answered` and `delay_ms` are called from the answering one.

    Attributes:
        window: the window that is or was open last.
        voiced_s: how much of it was voiced so far.
    """

    def __init__(self) -> None:
        self.window, self.voiced_s = 0, 0.0
        self._ended: OrderedDict[int, float] = OrderedDict()
        self._delays: dict[int, float] = {}

    def open(self, window: int) -> None:
        self.window, self.voiced_s = window, 0.0

    def hear(self, level: LevelMeasured) -> None:
        """One frame."""
        if level.voiced and level.open_kind is not None:
            self.voiced_s += FRAME_S

    def close(self, window: int, silence_s: float) -> None:
        """Remember when the talker of this window fell silent: `silence_s` ago.

        The gate's own count, not the detector's last voiced frame: webrtcvad calls many a frame of silence voiced.
        """
        self._ended[window] = time.monotonic() - silence_s
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
