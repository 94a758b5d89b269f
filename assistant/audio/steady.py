"""A sound that goes on and on: one window, then updates, not a flood.

When its window has lasted long enough the sound is told. If it keeps still (a fan, hiss) it becomes the noise floor,
and that is all. If it moves (music, an alarm, barking) only what stands out from it opens windows until it stops, and
an update comes due each so often.
"""

from __future__ import annotations

import numpy as np

from assistant.audio.background import BANDS, SILENCE_DBFS, Background, Heard, novelty_db

STILL_DB = 2.0  # mean scatter of the bands' levels, smoothed, about their own mean; white noise has about 1
ABOVE_DB = 9.0  # so far above the loudest that it had before is something else
GONE_DB, GONE_FRAMES = 10.0, 67  # so far below what it was, for two seconds: it has stopped


class SteadySound:
    """Watches what goes on while a window is open, and after it was told.

    Args:
        after, every: frames until it is told, and between updates.
    """

    def __init__(self, background: Background, after: int, every: int) -> None:
        self._background, self._after, self._every = background, after, every
        self._sum, self._squares, self._n = np.zeros(BANDS + 1), np.zeros(BANDS + 1), 0
        self._most = np.full(BANDS + 1, SILENCE_DBFS)
        self._reference, self._level = self._most.copy(), SILENCE_DBFS
        self._since = self._gone = 0
        self.on = False

    def begin(self) -> None:
        """A window opens."""
        self._sum[:], self._squares[:], self._most[:], self._n = 0.0, 0.0, SILENCE_DBFS, 0

    def hear(self, heard: Heard, in_window: bool) -> None:
        """Once a frame, after `Background.hear`."""
        if in_window:
            levels = self._background.smooth
            self._sum += levels
            self._squares += levels * levels
            np.maximum(self._most, levels, out=self._most)
            self._n += 1
        if self.on:
            self._since += 1
            self._gone = self._gone + 1 if heard.level_dbfs < self._level - GONE_DB else 0
            self.on = self._gone < GONE_FRAMES

    @property
    def goes_on(self) -> bool:
        """Whether the open window has lasted long enough to be told."""
        return self._n >= self._after

    @property
    def update_due(self) -> bool:
        return self.on and self._since >= self._every and not self._gone

    def is_more(self, heard: Heard) -> bool:
        """Whether the last frame is something else than the sound that was told."""
        if not self.on:
            return True
        louder = heard.level_dbfs - self._reference[0] > ABOVE_DB
        return bool(louder) or novelty_db(self._background.smooth, self._reference) > ABOVE_DB

    def told(self) -> None:
        """The sound's window ends."""
        mean = self._sum / self._n
        scatter = np.sqrt(np.maximum(self._squares / self._n - mean**2, 0.0))
        self._reference = np.maximum(self._most, self._reference) if self.on else self._most.copy()
        self.on = float(scatter[1:].mean()) > STILL_DB
        if not self.on:
            self._background.take(mean)
        self._level, self._since, self._gone = float(mean[0]), 0, 0
