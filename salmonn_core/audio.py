"""A clip as the encoders want it: mono, 16 kHz, at least a second, at most thirty."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from salmonn_core.config import FRAME_RATE, MAX_SECONDS, MIN_SECONDS, SAMPLE_RATE
from salmonn_core.errors import UserError

FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE  # samples of one encoder state: 20 ms
MIN_SAMPLES = int(MIN_SECONDS * SAMPLE_RATE)
MAX_SAMPLES = int(MAX_SECONDS * SAMPLE_RATE)


def read_audio(path: Path | str, start_s: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """A sound file as (samples,) float32 at 16 kHz, channel 0 as in the reference.

    Raises:
        UserError: the file is missing, empty or no audio that libsndfile reads.
    """
    import soundfile
    import soxr

    if not Path(path).exists():
        raise UserError(f"no such file: {path}")
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(min(int(start_s * file.samplerate), file.frames))
            count = -1 if seconds is None else int(seconds * file.samplerate)
            wave, rate = file.read(count, dtype="float32", always_2d=True)[:, 0], file.samplerate
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path} is not a sound file that can be read ({error})") from error
    if not len(wave):
        raise UserError(f"{path} holds no sound: it is empty")
    return wave if rate == SAMPLE_RATE else soxr.resample(wave, rate, SAMPLE_RATE).astype(np.float32)


def groups(sizes: Sequence[int], limit: int) -> Iterator[range]:
    """Neighbours whose sizes add up to at most `limit`, or one that is larger by itself."""
    start = total = 0
    for end, size in enumerate(sizes):
        if start < end and total + size > limit:
            yield range(start, end)
            start, total = end, 0
        total += size
    if sizes:
        yield range(start, len(sizes))


def fit_length(wave: np.ndarray, multiple_frames: int = 1) -> np.ndarray:
    """Pad with silence to at least 1 s and to a whole number of windows; cut at 30 s.

    Args:
        wave: (samples,) float32 at 16 kHz.
        multiple_frames: encoder states a window holds. The reference drops a last partial window, which
            costs nothing under 30 s of padding; on an unpadded clip it would drop the last word.
    """
    wave = wave[:MAX_SAMPLES]
    step = FRAME_SAMPLES * multiple_frames
    target = max(MIN_SAMPLES, len(wave))
    target = math.ceil(target / step) * step
    return np.pad(wave, (0, target - len(wave)))
