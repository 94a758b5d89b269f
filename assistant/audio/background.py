"""What the room sounds like when nothing happens, and how far each frame stands out from it.

The floor is tracked for the whole level and for twenty bands: an alarm that adds little to the rumble of a fan still
stands far above the fan in its own bands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from assistant.records import FRAME_SAMPLES

SILENCE_DBFS = -100.0
FLOOR_START_DBFS, FLOOR_LEAST_DBFS = -60.0, -75.0
FALL, RISE = 0.2, 0.004  # per frame: falls within a tenth of a second, rises over some ten seconds
ZEROS_DBFS = -90.0
SMOOTHING = 0.4  # of the band levels: a single frame of noise scatters by several dB
STRONGEST = 2  # bands that make the novelty
WARM_UP = 16  # frames; a noise that was there from the first half second on is background
STILL_DB, LOUDEST_DBFS = 3.0, -25.0  # if its level scatters less, and it is no louder than any noise one could live in

# The first bins of the bands: from 100 Hz on, growing with the frequency as on the mel scale; the last ends at 8 kHz.
EDGES = np.array([3, 6, 9, 13, 18, 23, 28, 34, 41, 49, 58, 68, 79, 92, 107, 123, 141, 161, 185, 211])
BANDS = len(EDGES)
_WINDOW = np.hanning(FRAME_SAMPLES).astype(np.float32)
_SCALE = 2.0 / (FRAME_SAMPLES * float(np.sum(_WINDOW**2)))


def level_dbfs(samples: np.ndarray) -> float:
    """Root mean square in dB below full scale."""
    power = float(np.dot(samples, samples)) / len(samples) if len(samples) else 0.0
    return 10.0 * math.log10(power) if power > 1e-10 else SILENCE_DBFS


def band_levels(frame: np.ndarray) -> np.ndarray:
    """(480,) float32 to (20,) dB below full scale, each never under -100."""
    spectrum = np.fft.rfft(frame * _WINDOW)
    power = spectrum.real**2 + spectrum.imag**2
    return 10.0 * np.log10(np.add.reduceat(power, EDGES) * _SCALE + 1e-10)


def novelty_db(levels: np.ndarray, floor: np.ndarray) -> float:
    """How far the bands that stand out most do so: (21,) dB over (21,) dB, of which the first is no band."""
    above = sorted((levels - floor).tolist()[1:])
    return float(sum(above[-STRONGEST:]) / STRONGEST)


@dataclass(frozen=True)
class Heard:
    """One frame against the background.

    Attributes:
        level_dbfs: of the frame.
        floor_dbfs: the running noise floor.
        novelty_db: how far the bands that stand out most do so, on average.
    """

    level_dbfs: float
    floor_dbfs: float
    novelty_db: float

    @property
    def above_db(self) -> float:
        """How far it stands out, by level or by spectrum."""
        return max(self.level_dbfs - self.floor_dbfs, self.novelty_db)


class Background:
    """The running floor. `hear` a frame, then `follow` it.

    Attributes:
        smooth: (21,) dB, level and bands, averaged over some three frames.
    """

    def __init__(self) -> None:
        self._floor = np.full(BANDS + 1, FLOOR_START_DBFS)  # the level, then the bands
        self._floor[1:] -= 10.0 * np.log10(BANDS)
        self._now = np.full(BANDS + 1, FLOOR_LEAST_DBFS)
        self.smooth = np.full(BANDS + 1, SILENCE_DBFS)
        self._first: list[np.ndarray] = []
        self._waited = 0

    @property
    def warming_up(self) -> bool:
        return len(self._first) < WARM_UP and self._waited < 2 * WARM_UP

    def hear(self, frame: np.ndarray) -> Heard:
        """(480,) float32."""
        level = level_dbfs(frame)
        self._now[0] = level
        self._now[1:] = band_levels(frame)
        if not self._first:
            self.smooth[:] = self._now
        self.smooth += SMOOTHING * (self._now - self.smooth)
        return Heard(level, float(self._floor[0]), novelty_db(self.smooth, self._floor))

    def follow(self, rises: bool) -> None:
        """Let the floor follow the last frame; a long speech is no noise to get used to, so it may not rise then."""
        if self._now[0] <= ZEROS_DBFS:  # a device that is muted, or not ready yet, sends zeros, which are no floor
            self._waited += 1
        elif self.warming_up:
            self._warm_up()
        else:
            rate = np.where(self.smooth < self._floor, FALL, RISE if rises else 0.0)
            self._floor += rate * (self.smooth - self._floor)
            np.maximum(self._floor, _LEAST, out=self._floor)

    def _warm_up(self) -> None:
        self._first.append(self.smooth.copy())
        levels = np.array(self._first)
        if len(levels) == WARM_UP and levels[:, 0].std() < STILL_DB and levels[:, 0].mean() < LOUDEST_DBFS:
            self.take(np.percentile(levels, 10, axis=0))

    def take(self, levels: np.ndarray) -> None:
        """Make (21,) dB, level and bands, the floor at once."""
        self._floor = np.maximum(levels, _LEAST)


_LEAST = np.full(BANDS + 1, FLOOR_LEAST_DBFS)
_LEAST[1:] -= 10.0 * np.log10(BANDS)
