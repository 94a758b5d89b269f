"""The live microphone: a callback that copies and leaves, a bounded queue, and a supervisor over both."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from assistant.audio import sound_server
from assistant.audio.devices import (
    Device,
    DeviceMissing,
    choose_device,
    input_devices,
    portaudio,
    same_device,
    streaming,
)
from assistant.audio.quiet import native_output_apart
from assistant.audio.supervisor import Heard, Supervisor
from assistant.errors import UserError
from assistant.records import FRAME_S, SAMPLE_RATE, WindowEnd

BLOCK_FRAMES = 2  # waking up costs more than a frame's work; the end of a turn is 15 ms later for it
QUEUE_SECONDS = 10.0
MANY_CHANNELS = 8  # PortAudio gives 32 for a sound server; hardly any microphone has so many
DEFAULT_POLL_S = 5.0


class Drops:
    """Frames that were lost, counted in PortAudio's thread."""

    def __init__(self) -> None:
        self._lock, self._count = threading.Lock(), 0

    def add(self, count: int) -> None:
        with self._lock:
            self._count += count

    def take(self) -> int:
        """How many since the last call."""
        with self._lock:
            count, self._count = self._count, 0
        return count


class MicrophoneFeed:
    """An open PortAudio stream at the device's own rate.

    Raises:
        UserError: the device refuses.
    """

    def __init__(self, device: Device, drops: Drops) -> None:
        self._device, self._drops = device, drops
        self._queue: queue.Queue[np.ndarray] = queue.Queue(maxsize=int(QUEUE_SECONDS / FRAME_S / BLOCK_FRAMES))
        self._behind = sound_server.default_source() if device.name in sound_server.DEVICES else None
        self._default = self._behind.name if self._behind else None
        self._asked = time.monotonic()
        self.rate_hz, self.channels = 0, 0
        with ExitStack() as opened:
            self._stream = self._open(opened.enter_context(streaming()))
            opened.callback(self._stream.close, ignore_errors=True)
            self._opened = opened.pop_all()

    @property
    def label(self) -> str:
        return f"{self._device.name} ({self._default})" if self._default else self._device.name

    def read(self, timeout_s: float) -> np.ndarray | None:
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def alive(self) -> bool:
        try:
            return bool(self._stream.active)
        except portaudio().PortAudioError:
            return False

    def moved_to(self) -> str | None:
        """Pulse and PipeWire move a stream themselves when the default changes; this only finds out."""
        if self._device.name not in sound_server.DEVICES or time.monotonic() - self._asked < DEFAULT_POLL_S:
            return None
        self._asked = time.monotonic()
        now = sound_server.default_name()
        if now is None or now == self._default:
            return None
        self._default = now
        return self.label

    def close(self) -> None:
        self._opened.close()

    def _formats(self) -> Iterator[tuple[int, int]]:
        """(rate, channels) to try: what the device says of itself, then what most can do."""
        own_rate, own_channels = self._device.rate_hz, self._device.channels
        if self._behind is not None:
            own_rate, own_channels = self._behind.rate_hz, self._behind.channels
        # Some hardware opens with all of its channels or not at all, so a large number is tried too, but last.
        counts = (min(own_channels, MANY_CHANNELS), 1, 2, own_channels)
        for rate in dict.fromkeys((own_rate, 48_000, 44_100, SAMPLE_RATE)):
            yield from ((rate, count) for count in dict.fromkeys(counts) if count <= self._device.channels)

    def _open(self, sounddevice: Any) -> Any:
        reason = ""
        for rate, channels in self._formats():
            self.rate_hz, self.channels, stream = rate, channels, None
            try:
                stream = self._stream_of(sounddevice)
                stream.start()
            except sounddevice.PortAudioError as error:
                reason = str(error)
                if stream is not None:
                    stream.close(ignore_errors=True)
            else:
                return stream
        raise UserError(f"cannot open the microphone {self.label!r} ({reason}); see: assistant devices")

    def _stream_of(self, sounddevice: Any) -> Any:
        return sounddevice.InputStream(
            samplerate=self.rate_hz,
            blocksize=round(self.rate_hz * BLOCK_FRAMES * FRAME_S),
            device=self._device.index,
            channels=self.channels,
            dtype="float32",
            callback=self._heard,
        )

    def _heard(self, block: np.ndarray, _frames: int, _time: Any, status: Any) -> None:
        """Runs in PortAudio's thread: copy and leave."""
        lost = 1 if status.input_overflow else 0
        try:
            self._queue.put_nowait(block.copy())
        except queue.Full:
            lost += 1
        if lost:
            self._drops.add(lost * BLOCK_FRAMES)


class MicrophoneSource:
    """The microphone as a source that outlives its device.

    Args:
        wanted: number or part of the name; the default device for None, whichever that is from time to time.
        patient: wait for a device that is not there at the start, instead of failing.

    Raises:
        UserError: PortAudio is missing; several devices fit; or none does and `patient` is false, with what there is.
    """

    live = True
    end: WindowEnd = "manual"

    def __init__(self, wanted: str | None = None, patient: bool = False) -> None:
        self._wanted, self._patient = wanted, patient
        self._drops = Drops()
        self._known: Device | None = None
        self._feed: MicrophoneFeed | None = None
        self.name = wanted or "default microphone"
        try:
            self.name = self._find(input_devices()).name
        except DeviceMissing:
            if not patient:
                raise

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Heard]:
        """Frames and changes of state; see `Supervisor.frames`."""
        with native_output_apart():
            yield from Supervisor(self._connect, self.name, self._patient).frames(stopped)

    def dropped(self) -> int:
        return self._drops.take()

    def format(self) -> dict[str, Any]:
        """The device that was opened last, with its own rate and number of channels."""
        feed = self._feed
        return {"device": feed.label, "rate_hz": feed.rate_hz, "channels": feed.channels} if feed else {}

    def _connect(self) -> MicrophoneFeed:
        self._feed = MicrophoneFeed(self._find(input_devices(look_again=True)), self._drops)
        self.name = self._feed.label
        return self._feed

    def _find(self, devices: list[Device]) -> Device:
        """The named device, which keeps its name and not its number when others come and go."""
        if self._wanted is None:
            return choose_device(None, devices)
        self._known = same_device(self._known, devices) if self._known else choose_device(self._wanted, devices)
        return self._known
