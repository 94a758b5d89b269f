"""Sound as a device gives it, any rate and any number of channels, to 30 ms frames of mono at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from assistant.records import FRAME_SAMPLES, SAMPLE_RATE

MEMORY_S = 0.3
MUCH_LOUDER = 4.0  # in power, 6 dB: two channels of one voice never differ by so much for long


class ChannelPicker:
    """Takes the channel that carries the sound.

    A mean would halve a voice that sits on one channel of an interface, and could cancel one that is out of phase.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz, self._chosen = rate_hz, 0
        self._power: np.ndarray | None = None

    def pick(self, block: np.ndarray) -> np.ndarray:
        """(n, channels) to (n,)."""
        if block.shape[1] == 1:
            return block[:, 0]
        power = np.mean(np.square(block, dtype=np.float64), axis=0)
        if self._power is None:
            self._power = power
        share = min(1.0, len(block) / (MEMORY_S * self._rate_hz))
        self._power = (1 - share) * self._power + share * power
        loudest = int(np.argmax(self._power))
        if self._power[loudest] > MUCH_LOUDER * self._power[self._chosen]:
            self._chosen = loudest
        return block[:, self._chosen]


class Converter:
    """Blocks go in as the device gives them; frames of (480,) float32 at 16 kHz come out, without seams."""

    def __init__(self, rate_hz: int) -> None:
        import soxr

        self._picker = ChannelPicker(rate_hz)
        self._stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE, 1, dtype="float32") if rate_hz != SAMPLE_RATE else None
        self._rest = np.zeros(0, np.float32)

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Convert (n, channels) float32."""
        mono = np.ascontiguousarray(self._picker.pick(block))
        if self._stream is not None:
            mono = self._stream.resample_chunk(mono)
        if not len(self._rest) and len(mono) == FRAME_SAMPLES:
            yield mono
            return
        self._rest = np.concatenate((self._rest, mono))
        whole = len(self._rest) // FRAME_SAMPLES * FRAME_SAMPLES
        frames, self._rest = self._rest[:whole].reshape(-1, FRAME_SAMPLES), self._rest[whole:]
        yield from frames
