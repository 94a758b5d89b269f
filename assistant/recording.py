"""A session on disk: what the segmenter heard, what the model was asked and said, what happened, under which profile.

A folder with `recording.json` (versions, hashes, how it ended), `profile.yaml` (with everything it extends),
`audio.flac` (16 kHz, 16 bit; `audio.raw` until the session has ended), `events.jsonl`, `calls.jsonl` (the model) and
`hooks.jsonl` (the plugins).
"""

from __future__ import annotations

import hashlib
import json
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import yaml

from assistant.audio.source import Source
from assistant.background import Background
from assistant.core import NEVER, Core
from assistant.errors import UserError
from assistant.events import DeviceStateChanged, ErrorRaised, Event, LevelMeasured, Listening, Stopped
from assistant.profile import Profile
from assistant.records import SAMPLE_RATE, AudioWindow, Prompt, WindowEnd, WindowKind

FORMAT = 1
FULL_SCALE = 32_768.0
LINES = ("events", "calls", "hooks")
FILES = ("recording.json", "profile.yaml", "audio.raw", "audio.flac", *(f"{name}.jsonl" for name in LINES))
Emit = Callable[[Event], None]


class SixteenBit:
    """A source whose frames are rounded to 16 bit, so that what is heard can be kept exactly."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.live, self.end = source.live, source.end

    @property
    def name(self) -> str:
        """The device's name, which a microphone learns when it is opened."""
        return self._source.name

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray | DeviceStateChanged]:
        for frame in self._source.frames(stopped):
            if isinstance(frame, DeviceStateChanged):
                yield frame
            else:
                yield to_16_bit(frame).astype(np.float32) / np.float32(FULL_SCALE)
        self.end = self._source.end

    def dropped(self) -> int:
        return self._source.dropped()


def unhurried(profile: Profile) -> Profile:
    """The profile that is recorded: what depends on the moment alone cannot be replayed.

    No answer is begun before its window is over, and nobody interrupts one by talking on.
    """
    hearing = profile.hearing.model_copy(update={"speculate_after_s": 0.0, "barge_in_s": 0.0})
    return profile.model_copy(update={"hearing": hearing})


def to_16_bit(samples: np.ndarray) -> np.ndarray:
    """(n,) float32 in [-1, 1) to (n,) little-endian int16."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")


class Recording:
    """Writes a session into a new folder, from a thread of its own.

        with Recording(folder, profile, emit) as recording:
            turns.core = recording.core(turns.core)
            Session(recording.source(source), Tap(detector, recording.hear), turns, recording).run()

    A full disk is an `ErrorRaised` with source `recording`; the session goes on without being recorded.

    Args:
        emit: the front end's; every event is passed on to it first.

    Raises:
        UserError: the folder is not empty or cannot be made.
    """

    def __init__(self, folder: Path, profile: Profile, emit: Emit) -> None:
        self.folder, self._emit = folder, emit
        _make_empty(folder)
        text = yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        self._about: dict[str, Any] = {
            "format": FORMAT,
            "started_at": time.time(),
            "profile": profile.name,
            "profile_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "versions": versions(),
        }
        self._heard = 0
        self._lock = threading.Lock()
        self._end: Callable[[], WindowEnd] = lambda: "end_of_file"
        self._broken = False
        try:
            (folder / "profile.yaml").write_text(text, encoding="utf-8")
            self._write_about()
            self._audio: BinaryIO = (folder / "audio.raw").open("wb")
            self._lines = {name: (folder / f"{name}.jsonl").open("ab") for name in LINES}
        except OSError as error:
            raise UserError(f"cannot record into {folder}: {error.strerror or error}") from error
        self._worker = Background("recording", self._failed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Pass an event on, and write it down with the number of frames that were heard before it."""
        self._emit(event)
        if isinstance(event, LevelMeasured):
            return
        if isinstance(event, Listening):
            self._about |= {"source": event.source, "model": event.model}
        if isinstance(event, Stopped):
            self._about |= {"reason": event.reason}
        self._line("events", event.as_dict() | {"frames": self._heard})

    def source(self, source: Source) -> Source:
        """The same source in 16 bit."""
        self._end = lambda: source.end
        return SixteenBit(source)

    def hear(self, frame: np.ndarray) -> None:
        """Keep a frame of (480,) float32 on the 16-bit grid, as the segmenter hears it."""
        self._heard += 1
        self._do(partial(self._audio_write, frame))

    def core(self, core: Core) -> Core:
        """The same core; what it is asked and says is written down."""
        return RecordingCore(core, partial(self._line, "calls"))

    def hook(self, plugin: str, hook: str, inputs: Mapping[str, Any], output: Any) -> None:
        """Write down a plugin's call: a `records.HookRecorder`. Tokens are left out: they are in the model's calls.

        So are the settings, which are in the profile, and the plugin's own state, which is no longer what went in.
        """
        if hook != "token_generated":
            given = {name: value for name, value in inputs.items() if name not in ("settings", "state")}
            self._line("hooks", {"plugin": plugin, "hook": hook, "inputs": given, "output": output})

    def close(self) -> None:
        """Write what waits and turn the raw audio into FLAC."""
        self._do(self._finish)
        # A day of sound takes about half a minute to compress.
        self._worker.close(timeout_s=600.0)

    def _line(self, file: str, value: Mapping[str, Any]) -> None:
        # Packed here: what a plugin was given may be changed by the time the writer gets to it.
        data = json.dumps(value, ensure_ascii=False, default=plain, skipkeys=True).encode() + b"\n"
        self._do(partial(self._lines_write, file, data))

    def _do(self, job: Callable[[], None]) -> None:
        if not self._broken:
            self._worker.do(job)

    def _audio_write(self, frame: np.ndarray) -> None:
        self._audio.write(to_16_bit(frame).tobytes())

    def _lines_write(self, file: str, data: bytes) -> None:
        self._lines[file].write(data)
        self._lines[file].flush()

    def _finish(self) -> None:
        for file in (self._audio, *self._lines.values()):
            file.close()
        if not self._heard:  # the model could not be loaded, or the source not be opened
            _remove(self.folder)
            return
        self._about |= {"frames": self._heard, "end": self._end(), "audio_sha256": _compress(self.folder)}
        self._write_about()
        (self.folder / "audio.raw").unlink()

    def _write_about(self) -> None:
        (self.folder / "recording.json").write_text(json.dumps(self._about, indent=2) + "\n", encoding="utf-8")

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if self._broken:
                return
            self._broken = True
        said = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        message = f"the recording in {self.folder} ends here ({said}); the session goes on"
        self._emit(ErrorRaised(source="recording", message=message))


class RecordingCore:
    """A core that reports each call: which sound, which prompt, which pieces, or which error."""

    def __init__(self, core: Core, report: Callable[[Mapping[str, Any]], None]) -> None:
        self._core, self._report = core, report
        self.name = core.name

    def encode(self, samples: np.ndarray) -> Any:
        sound = fingerprint(samples)
        try:
            return sound, self._core.encode(samples)
        except UserError as error:
            self._report({"call": "encode", "sound": sound, "error": str(error)})
            raise

    def join(self, parts: Sequence[Any]) -> Any:
        return "+".join(sound for sound, _ in parts), self._core.join([inner for _, inner in parts])

    def kind(self, audio: Any) -> WindowKind:
        sound, inner = audio
        kind = self._core.kind(inner)
        self._report({"call": "kind", "sound": sound, "kind": kind})
        return kind

    def stream(self, audio: Any, prompt: Prompt, cancelled: Callable[[], bool] = NEVER) -> Iterator[str]:
        sound, inner = audio
        pieces: list[str] = []
        call: dict[str, Any] = {"call": "stream", "sound": sound, "prompt": asdict(prompt), "pieces": pieces}
        call["cancelled"] = True  # also when nobody takes the rest of the pieces
        try:
            for piece in self._core.stream(inner, prompt, cancelled):
                pieces.append(piece)
                yield piece
            call["cancelled"] = cancelled()
        except UserError as error:
            call["error"] = str(error)
            raise
        finally:
            call["words"] = self._core.transcript(inner, prompt)
            self._report(call)

    def transcript(self, audio: Any, prompt: Prompt) -> str:
        return self._core.transcript(audio[1], prompt)


def fingerprint(samples: np.ndarray) -> str:
    """A name for a stretch of sound: the same samples have the same one."""
    return hashlib.sha256(to_16_bit(samples).tobytes()).hexdigest()[:24]


def versions() -> dict[str, str]:
    """What may make a difference when a session is replayed."""
    found = {"assistant": metadata.version("listening-assistant"), "python": platform.python_version()}
    for name in ("torch", "numpy", "webrtcvad-wheels"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """JSON for records: a window without its samples, a set in order, anything else as Python shows it."""
    if isinstance(value, AudioWindow):
        return {f.name: getattr(value, f.name) for f in fields(value) if f.name != "samples"} | {
            "sound": fingerprint(value.samples)
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    return repr(value)


def _make_empty(folder: Path) -> None:
    """Sound and words of people: nobody else may read the folder."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; name a new folder for the recording")
        for name in FILES:
            (folder / name).touch(mode=0o600)
    except OSError as error:
        raise UserError(f"cannot record into {folder}: {error.strerror or error}") from error


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _compress(folder: Path) -> str:
    """`audio.raw` to `audio.flac`; the sha256 of the samples."""
    import soundfile

    digest = hashlib.sha256()
    with (
        (folder / "audio.raw").open("rb") as raw,
        soundfile.SoundFile(folder / "audio.flac", "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file,
    ):
        while block := raw.read(2 * SAMPLE_RATE):
            digest.update(block)
            file.write(np.frombuffer(block, "<i2"))
    return digest.hexdigest()
