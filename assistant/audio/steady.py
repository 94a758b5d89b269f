"""A sound that goes on and on: one window, then updates, not a flood.

When its window has lasted long enough the sound is told, and becomes the background: whatever stands out from *it* opens
windows as ever. If it keeps still (a fan, hiss) that is all. If it moves (music, an alarm, rain with thunder) an update
comes due each so often, until it stops.
"""

from __future__ import annotations

import numpy as np

from assistant.audio.background import BANDS, Background, Heard

STILL_DB = 2.0  # mean scatter of the bands' levels, smoothed, about their own mean; white noise has about 1
GONE_DB, GONE_FRAMES = 10.0, 67  # so far below what it was, for two seconds: it has stopped


class SteadySound:
    """Watches what goes on while a window is open, and after it was told.

    Args:
        after, every: frames until it is told, and between updates.
    """

    def __init__(self, background: Background, after: int, every: int) -> None:
        self._background, self._after, self._every = background, after, every
        self._sum, self._squares, self._n = np.zeros(BANDS + 1), np.zeros(BANDS + 1), 0
        self._level = 0.0
        self._since = self._gone = 0
        self.on = False

    def begin(self) -> None:
        """A window opens."""
        self._sum[:], self._squares[:], self._n = 0.0, 0.0, 0

    def hear(self, heard: Heard) -> None:
        """Once a frame, after `Background.hear`."""
        levels = self._background.smooth
        self._sum += levels
        self._squares += levels * levels
        self._n += 1
        if self.on:
            self._since += 1
            self._gone = self._gone + 1 if heard.level_dbfs < self._level - GONE_DB else 0
            if self._gone >= GONE_FRAMES:
                self._stop()

    @property
    def goes_on(self) -> bool:
        """Whether the open window has lasted long enough to be told."""
        return self._n >= self._after

    @property
    def update_due(self) -> bool:
        return self.on and self._since >= self._every and not self._gone

    def told(self) -> None:
        """The sound's window ends: it is background now, and if it moves it will be told again."""
        mean = self._sum / self._n
        scatter = np.sqrt(np.maximum(self._squares / self._n - mean**2, 0.0))
        self._background.take(mean + scatter)  # barks with gaps between them do not stand out from themselves
        self.on = float(scatter[1:].mean()) > STILL_DB
        self._background.held = self.on
        self._level, self._since, self._gone = float(mean[0]), 0, 0

    def _stop(self) -> None:
        self.on = self._background.held = False
