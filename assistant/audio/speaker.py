"""Plays a window through the speaker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from assistant.audio.devices import streaming
from assistant.errors import UserError
from assistant.records import SAMPLE_RATE

BLOCK_S = 0.05
TAIL_S = 0.3  # the room goes on sounding a little after the last sample


def play(samples: np.ndarray, stopped: Callable[[], bool]) -> None:
    """Play (n,) float32 at 16 kHz to the end, or until `stopped` says so. Blocks.

    Raises:
        UserError: there is no speaker, or it refuses.
    """
    with streaming() as sounddevice:
        try:
            with sounddevice.OutputStream(samplerate=SAMPLE_RATE, channels=1, dtype="float32") as stream:
                _write(stream, samples, stopped)
        except sounddevice.PortAudioError as error:
            raise UserError(f"cannot play through the speaker ({error}); is one plugged in?") from error
    if not stopped():
        time.sleep(TAIL_S)


def _write(stream: Any, samples: np.ndarray, stopped: Callable[[], bool]) -> None:
    size = int(BLOCK_S * SAMPLE_RATE)
    for start in range(0, len(samples), size):
        if stopped():
            stream.abort()
            return
        stream.write(np.ascontiguousarray(samples[start : start + size]))
