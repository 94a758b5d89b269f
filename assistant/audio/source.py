"""Where frames come from: a file, standard input or a microphone. All give 30 ms of mono float32 at 16 kHz."""

from __future__ import annotations

import io
import math
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from assistant.errors import UserError
from assistant.events import DeviceStateChanged
from assistant.records import FRAME_SAMPLES, SAMPLE_RATE, WindowEnd

BLOCK_SECONDS = 1.0


class Source(Protocol):
    """A stream of frames of (480,) float32. `frames` ends when the source does; `end` then says why.

    A live source goes on when its device goes: among the frames it then yields what happened, and silence until the
    device is back, so that the time in the stream follows the clock.
    """

    live: bool
    end: WindowEnd

    @property
    def name(self) -> str: ...

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray | DeviceStateChanged]: ...

    def dropped(self) -> int:
        """Frames lost since the last call."""
        ...


def cut(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks of any length to frames of 480 samples; the rest at the end is padded with silence."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate((rest, block))
        whole = len(rest) // FRAME_SAMPLES * FRAME_SAMPLES
        yield from rest[:whole].reshape(-1, FRAME_SAMPLES)
        rest = rest[whole:]
    if len(rest):
        yield np.pad(rest, (0, FRAME_SAMPLES - len(rest)))


class FileSource:
    """A sound file of any common format, read a second at a time, so that hours of it need no memory.

    Raises:
        UserError: at once, if the file is missing, empty or no sound file.
    """

    live = False
    end: WindowEnd = "end_of_file"

    def __init__(self, path: str | Path | BinaryIO, name: str | None = None) -> None:
        self._path, self.name = path, name or str(path)
        with self._opened() as file:
            if not file.frames:
                raise UserError(f"{self.name} holds no sound: it is empty")

    def _opened(self) -> Any:
        return open_sound(self._path, self.name)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        with self._opened() as file:
            for frame in cut(resampled(_blocks(file), file.samplerate)):
                if stopped():
                    return
                yield frame

    def dropped(self) -> int:
        return 0


class StdinSource:
    """Standard input: a sound file of any format that libsndfile reads, or raw 16 kHz mono s16le.

    Raw sound and 16-bit WAVE are heard as they come, as a recorder writes them; other files once they have ended.
    """

    live = False
    end: WindowEnd = "end_of_file"
    name = "-"

    def __init__(self, stream: BinaryIO | None = None) -> None:
        # Unbuffered: a thread that waits in a buffered read holds a lock that Ctrl-C would trip over.
        self._stream = stream or open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        pipe = Pipe(self._stream)
        head = pipe.peek(12)
        if not head:
            raise UserError("standard input is empty; pipe a sound file or raw 16 kHz mono s16le into it")
        blocks = self._raw(head)
        if head[:4] in (b"RIFF", b"fLaC", b"OggS", b"FORM", b"caff") or head[:3] == b"ID3":
            streamed = wave_blocks(pipe) if head[:4] == b"RIFF" else None
            if streamed is None:
                yield from FileSource(pipe.whole(), "-").frames(stopped)
                return
            blocks = streamed
        for frame in cut(blocks):
            if stopped():
                return
            yield frame

    def _raw(self, head: bytes) -> Iterator[np.ndarray]:
        rest = head
        while True:
            whole = len(rest) // 2 * 2
            yield np.frombuffer(rest[:whole], "<i2").astype(np.float32) / 32_768.0
            data = self._stream.read(2 * FRAME_SAMPLES)
            if not data:
                return
            rest = rest[whole:] + data

    def dropped(self) -> int:
        return 0


class Pipe:
    """A stream that cannot go back, read in whole pieces; what was read while a header was looked for is kept."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._kept, self._at = stream, b"", 0
        self.keeps = True

    def peek(self, size: int) -> bytes:
        """The next bytes, or fewer if there are no more; the stream may hand them over in pieces."""
        while len(self._kept) - self._at < size and (more := self._stream.read(size - len(self._kept) + self._at)):
            self._kept += more
        return self._kept[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """The same, and go on behind them."""
        found = self.peek(size)
        self._at += len(found)
        if not self.keeps:
            self._kept, self._at = self._kept[self._at :], 0
        return found

    def whole(self) -> BinaryIO:
        """All of it, from its first byte."""
        return io.BytesIO(self._kept + self._stream.read())


def wave_blocks(pipe: Pipe) -> Iterator[np.ndarray] | None:
    """A 16-bit WAVE as blocks at 16 kHz, as they come; None if it is of another kind or does not say its length."""
    try:
        file = wave.open(cast(BinaryIO, pipe))  # noqa: SIM115 - it is read as long as it lasts
    except (wave.Error, EOFError):
        return None
    if file.getsampwidth() != 2 or not file.getnframes():
        return None
    pipe.keeps = False
    return resampled(_pieces(file), file.getframerate())


def _pieces(file: wave.Wave_read) -> Iterator[np.ndarray]:
    """Channel 0, some 30 ms at a time."""
    channels = file.getnchannels()
    while data := file.readframes(math.ceil(file.getframerate() * FRAME_SAMPLES / SAMPLE_RATE)):
        whole = len(data) // (2 * channels) * 2 * channels
        yield np.frombuffer(data[:whole], "<i2").reshape(-1, channels)[:, 0].astype(np.float32) / 32_768.0


def open_sound(path: str | Path | BinaryIO, name: str) -> Any:
    """An open `soundfile.SoundFile`.

    Raises:
        UserError: missing, a folder, or no sound file.
    """
    import soundfile

    if isinstance(path, (str, Path)):
        if not Path(path).exists():
            raise UserError(f"no such file: {name}")
        if Path(path).is_dir():
            raise UserError(f"{name} is a folder; name the sound files in it")
        if not Path(path).stat().st_size:
            raise UserError(f"{name} is empty (0 bytes)")
    else:
        path.seek(0)
    try:
        return soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{name} is not a sound file that can be read ({error.error_string})") from error


def _blocks(file: Any) -> Iterator[np.ndarray]:
    """Channel 0, as the reference takes it, a second at a time."""
    import soundfile

    try:
        for block in file.blocks(int(file.samplerate * BLOCK_SECONDS), dtype="float32", always_2d=True):
            yield np.ascontiguousarray(block[:, 0])
    except soundfile.LibsndfileError as error:
        raise UserError(f"{file.name} breaks off in the middle ({error.error_string})") from error


def resampled(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Blocks at any rate to blocks at 16 kHz, without seams."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def read_wave(path: str | Path) -> np.ndarray:
    """A whole sound file as (samples,) float32 at 16 kHz, at most its first thirty seconds and one frame more."""
    source = FileSource(path)
    limit = 30 * SAMPLE_RATE // FRAME_SAMPLES + 1
    collected: list[np.ndarray] = []
    for frame in source.frames(lambda: len(collected) >= limit):
        collected.append(frame)
    return np.concatenate(collected)
