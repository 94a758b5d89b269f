"""Plays a window through the speaker."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from assistant.audio.devices import portaudio, streaming
from assistant.audio.quiet import native_output_apart
from assistant.errors import UserError
from assistant.records import SAMPLE_RATE

BLOCK_S = 0.05
TAIL_S = 0.3  # the room goes on sounding a little after the last sample


def play(samples: np.ndarray, stopped: Callable[[], bool]) -> None:
    """Play (n,) float32 at 16 kHz to the end, or until `stopped` says so. Blocks.

    Raises:
        UserError: there is no speaker, or it refuses.
    """
    sounddevice = portaudio()
    size = int(BLOCK_S * SAMPLE_RATE)
    try:
        with (
            native_output_apart(),
            streaming(),
            sounddevice.OutputStream(samplerate=SAMPLE_RATE, channels=1, dtype="float32") as stream,
        ):
            for start in range(0, len(samples), size):
                if stopped():
                    return stream.abort()
                stream.write(np.ascontiguousarray(samples[start : start + size]))
    except sounddevice.PortAudioError as error:
        raise UserError(f"cannot play through the speaker ({error}); is one plugged in?") from error
    return time.sleep(TAIL_S)
