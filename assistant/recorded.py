"""Reads what `assistant.recording` wrote, and refuses what was changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assistant.audio.source import open_sound
from assistant.errors import UserError
from assistant.profile import Profile, load
from assistant.recording import FORMAT, FULL_SCALE
from assistant.records import SAMPLE_RATE


class Recorded:
    """A recording that was opened to be replayed.

    Raises:
        UserError: no recording, of a newer format, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = self._about()
        self.events = list(self._read("events"))
        self.calls = list(self._read("calls"))
        text = (folder / "profile.yaml").read_bytes() if (folder / "profile.yaml").exists() else b""
        if hashlib.sha256(text).hexdigest() != self.about["profile_sha256"]:
            raise UserError(f"{folder}/profile.yaml was changed since; replay under another one with --profile FILE")

    @property
    def complete(self) -> bool:
        """Whether the session ended in order, rather than with the power."""
        return "audio_sha256" in self.about

    def profile(self) -> Profile:
        """The profile of the session, as it was then."""
        return load(str(self.folder / "profile.yaml"))

    @property
    def frames(self) -> int:
        return int(self.about.get("frames", 0)) or max((int(event["frames"]) for event in self.events), default=0)

    def blocks(self) -> Iterator[np.ndarray]:
        """The sound a second at a time, (n,) float32.

        Raises:
            UserError: at the end, if it is not what was recorded.
        """
        digest = hashlib.sha256()
        for block in self._pcm():
            digest.update(block.tobytes())
            yield block.astype(np.float32) / np.float32(FULL_SCALE)
        if self.complete and digest.hexdigest() != self.about["audio_sha256"]:
            raise UserError(f"{self.folder}/audio.flac is not what was recorded; its replay means nothing")

    def _pcm(self) -> Iterator[np.ndarray]:
        if self.complete:
            path = self.folder / "audio.flac"
            with open_sound(path, str(path)) as file:
                yield from file.blocks(SAMPLE_RATE, dtype="int16")
            return
        raw = self.folder / "audio.raw"
        if not raw.exists():
            raise UserError(f"{self.folder} has no sound: audio.raw is missing")
        with raw.open("rb") as stream:
            while len(block := stream.read(2 * SAMPLE_RATE)) >= 2:
                yield np.frombuffer(block[: len(block) // 2 * 2], "<i2")

    def _about(self) -> dict[str, Any]:
        path = self.folder / "recording.json"
        if not path.exists():
            raise UserError(f"{self.folder} is no recording; make one with: assistant listen --record FOLDER")
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            newer = about["format"] > FORMAT
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error})") from error
        if newer:
            raise UserError(f"{path} was made by a newer assistant (format {about['format']}); update to replay it")
        return dict(about)

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                if number == len(lines) and not self.complete:
                    return  # cut off in the middle of a line
                raise UserError(f"{path}, line {number}: damaged ({error})") from error
