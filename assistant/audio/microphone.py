"""The live microphone: a callback that copies and leaves, a bounded queue, and frames at 16 kHz."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from assistant.audio.source import cut, resampled
from assistant.errors import UserError
from assistant.records import FRAME_S, SAMPLE_RATE, WindowEnd

QUEUE_SECONDS = 10.0
DEAD_AFTER_S = 4.0  # no callback for so long means that the device is gone: error callbacks often never come
INSTALL_HINT = (
    "PortAudio is not installed, so there is no live microphone (files and standard input work without it). "
    "On Debian or Ubuntu: sudo apt-get install libportaudio2; on Fedora: sudo dnf install portaudio"
)


def portaudio() -> Any:
    """The sounddevice module.

    Raises:
        UserError: the PortAudio library is missing, with what to install.
    """
    try:
        with quiet_stderr():
            import sounddevice
    except OSError as error:
        raise UserError(INSTALL_HINT) from error
    return sounddevice


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send what C libraries print (ALSA does, on every probe) to nowhere, for as long as the body runs."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


@dataclass(frozen=True)
class Device:
    """An input device as PortAudio sees it."""

    index: int
    name: str
    host: str
    channels: int
    rate_hz: int
    default: bool


def input_devices() -> list[Device]:
    """Every device that has an input."""
    sounddevice = portaudio()
    with quiet_stderr():
        try:
            default = int(sounddevice.default.device[0])
            hosts = sounddevice.query_hostapis()
            rows = list(sounddevice.query_devices())
        except sounddevice.PortAudioError as error:
            raise UserError(f"PortAudio cannot list the devices ({error})") from error
    return [
        Device(i, row["name"], hosts[row["hostapi"]]["name"], row["max_input_channels"],
               int(row["default_samplerate"]), i == default)
        for i, row in enumerate(rows)
        if row["max_input_channels"] > 0
    ]  # fmt: skip


def choose_device(wanted: str | None) -> Device:
    """The input device of that number or name part; the default one for None.

    Raises:
        UserError: there is none, or several fit.
    """
    devices = input_devices()
    if not devices:
        raise UserError("no input device: plug in a microphone, or use --input FILE")
    if wanted is None:
        return next((device for device in devices if device.default), devices[0])
    if wanted.isdigit():
        found = [device for device in devices if device.index == int(wanted)]
    else:
        found = [device for device in devices if wanted.lower() in device.name.lower()]
        found = [d for d in found if d.name.lower() == wanted.lower()] or found
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{device.index} {device.name!r}" for device in devices)
    problem = "no input device" if not found else f"{len(found)} input devices fit"
    raise UserError(f"{problem} {wanted!r}; there are: {listed}")


class MicrophoneSource:
    """A PortAudio input stream at the device's own rate; channel 0, resampled to 16 kHz."""

    live = True

    def __init__(self, device: Device) -> None:
        self._device = device
        self.name = device.name
        self.end: WindowEnd = "manual"
        self._queue: queue.Queue[np.ndarray] = queue.Queue(maxsize=int(QUEUE_SECONDS / FRAME_S))
        self._dropped = 0
        self._lock = threading.Lock()

    def _heard(self, block: np.ndarray, _frames: int, _time: Any, status: Any) -> None:
        """Runs in PortAudio's thread: copy and leave."""
        lost = 1 if status.input_overflow else 0
        try:
            self._queue.put_nowait(block[:, 0].copy())
        except queue.Full:
            lost += 1
        if lost:
            with self._lock:
                self._dropped += lost

    def dropped(self) -> int:
        with self._lock:
            count, self._dropped = self._dropped, 0
        return count

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        with self._stream() as rate:
            yield from cut(resampled(self._blocks(stopped), rate))

    def _blocks(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        last = time.monotonic()
        while not stopped():
            try:
                block = self._queue.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() - last > DEAD_AFTER_S:
                    self.end = "device_lost"
                    return
                continue
            last = time.monotonic()
            yield block

    @contextmanager
    def _stream(self) -> Iterator[int]:
        """An open stream at 16 kHz if the device can, otherwise at its own rate."""
        sounddevice = portaudio()
        stream, rate, reason = None, 0, ""
        with quiet_stderr():
            for rate in dict.fromkeys((SAMPLE_RATE, self._device.rate_hz)):
                try:
                    stream = sounddevice.InputStream(
                        samplerate=rate,
                        blocksize=round(rate * FRAME_S),
                        device=self._device.index,
                        channels=1,
                        dtype="float32",
                        callback=self._heard,
                    )
                    stream.start()
                    break
                except sounddevice.PortAudioError as error:
                    reason = str(error)
        if stream is None or not stream.active:
            raise UserError(f"cannot open the microphone {self.name!r} ({reason}); see: assistant devices")
        try:
            yield rate
        finally:
            with quiet_stderr():
                stream.close(ignore_errors=True)
