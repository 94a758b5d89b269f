"""How well a microphone is set, measured on a few seconds in which somebody spoke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from assistant.audio.background import SILENCE_DBFS, level_dbfs
from assistant.records import SAMPLE_RATE

Verdict = Literal["level fine", "too quiet: raise the gain", "clipping: lower the gain", "silence: is it muted?"]

FULL = 0.99  # of full scale; a few samples may touch it
CLIPPED_SAMPLES = 8
SILENT_PEAK_DBFS = -80.0  # below what any open microphone gives in any room
QUIET_LOUD_DBFS = -45.0  # the sound gate opens at -50
LOUD, FLOOR = 95, 10  # percentiles of the frames' levels


@dataclass(frozen=True)
class LevelReport:
    """Levels in dB below full scale: of the loudest sample, of everything, of the quietest and the loudest frames."""

    verdict: Verdict
    seconds: float
    peak_dbfs: float
    rms_dbfs: float
    floor_dbfs: float
    loud_dbfs: float
    clipped_samples: int


def report(frames: Sequence[np.ndarray]) -> LevelReport:
    """Judge frames of (480,) float32; at least one."""
    heard = np.concatenate(frames)
    magnitude = np.abs(heard)
    top = float(magnitude.max())
    peak = 20 * np.log10(top) if top > 0 else SILENCE_DBFS
    floor, loud = np.percentile([level_dbfs(frame) for frame in frames], (FLOOR, LOUD))
    clipped = int(np.count_nonzero(magnitude >= FULL))
    return LevelReport(
        verdict=_verdict(peak, loud, clipped),
        seconds=round(len(heard) / SAMPLE_RATE, 2),
        peak_dbfs=round(float(peak), 1),
        rms_dbfs=round(level_dbfs(heard), 1),
        floor_dbfs=round(float(floor), 1),
        loud_dbfs=round(float(loud), 1),
        clipped_samples=clipped,
    )


def _verdict(peak: float, loud: float, clipped: int) -> Verdict:
    if peak < SILENT_PEAK_DBFS:
        return "silence: is it muted?"
    if clipped > CLIPPED_SAMPLES:
        return "clipping: lower the gain"
    return "too quiet: raise the gain" if loud < QUIET_LOUD_DBFS else "level fine"
