"""Manifests: the official `{"annotation": [...]}`, JSON lines of the same fields, and the audio pack's own lines.

Every mistake is told before any training starts, with the file and the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from salmonn_core.audio import read_audio
from salmonn_core.errors import UserError
from salmonn_core.prompts import ALIASES, INSTRUCTIONS
from salmonn_core.yamlfile import nearest

Row = dict[str, object]
TASKS = frozenset(INSTRUCTIONS) | frozenset(ALIASES)
KINDS = ("speech", "event", "music")
GENDERS = ("man", "woman")
# Several files as one clip (`expand_wav`) go by one name: their paths, joined.
JOINED = "\n"
PAUSE_SAMPLES = 1600  # between the files of one clip, as in the reference


def read_manifest(path: Path) -> list[Row]:
    """Entries of a manifest; paths are made absolute, relative ones being relative to the manifest's folder.

    Raises:
        UserError: an entry that is no JSON, lacks `path`, or has an empty text or an unknown task, with its line.
    """
    return [row for _, row in numbered(path)]


def numbered(path: Path) -> Iterator[tuple[int, Row]]:
    """(line, entry) of a manifest, checked and with absolute paths."""
    if not path.is_file():
        raise UserError(f"no manifest at {path}")
    text = path.read_text(encoding="utf-8")
    for line, value in _official(path, text) if path.suffix == ".json" else _lines(path, text):
        row = _checked(path, line, value)
        files = [str(row["path"]), *(row.get("expand_wav") or ())]  # type: ignore[misc]
        row["path"] = JOINED.join(str(path.parent / name) for name in files)
        yield line, row


def _lines(path: Path, text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: no JSON ({error.msg})") from error


def _official(path: Path, text: str) -> Iterator[tuple[int, object]]:
    """The annotation's entries one by one, so that each has its line."""
    start = re.match(r'\s*\{\s*"annotation"\s*:\s*\[', text)
    if start is None:
        raise UserError(f'{path}, line 1: an official manifest is {{"annotation": [...]}}; JSON lines go in a .jsonl')
    decoder, at, line = json.JSONDecoder(), start.end(), 1 + text.count("\n", 0, start.end())
    while True:
        begin = at + len(text[at:]) - len(text[at:].lstrip(" \t\r\n,")) if at < len(text) else at
        line += text.count("\n", at, begin)
        if text[begin : begin + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, begin)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {line}: no JSON ({error.msg})") from error
        yield line, value
        line += text.count("\n", begin, at)


def _checked(path: Path, line: int, row: object) -> Row:
    where = f"{path}, line {line}"
    if not isinstance(row, dict) or not isinstance(row.get("path"), str):
        raise UserError(f"{where}: an entry needs the fields path and text")
    if not (str(row.get("text") or "").strip() or str(row.get("caption") or "").strip()):
        raise UserError(f"{where}: the text of {row['path']} is empty")
    task, kind = row.get("task"), row.get("kind")
    if task is not None and task not in TASKS:
        raise UserError(f"{where}: unknown task {task!r}{nearest(str(task), TASKS)}; known: {', '.join(sorted(TASKS))}")
    if kind is not None and kind not in KINDS:
        raise UserError(f"{where}: unknown kind {kind!r}; use {', '.join(KINDS)}")
    if row.get("voice") not in (None, *GENDERS):
        raise UserError(f"{where}: unknown voice {row['voice']!r}; use {' or '.join(GENDERS)}, or leave it out")
    return row


def read_clip(path: str) -> np.ndarray:
    """A clip as (samples,) float32 at 16 kHz; the files of `expand_wav` follow after short pauses."""
    parts: list[np.ndarray] = []
    for name in path.split(JOINED):
        parts += [np.zeros(PAUSE_SAMPLES, np.float32), read_audio(name)]
    return np.concatenate(parts[1:])


def check_audio(manifests: Sequence[Path], quiet: bool = False) -> None:
    """Look into the header of every sound file.

    Raises:
        UserError: a file that is missing or cannot be read, with the manifest's line.
    """
    for manifest in manifests:
        entries: Iterable[tuple[int, Row]] = list(numbered(manifest))
        for line, row in tqdm(entries, desc=f"check {manifest.stem}", disable=quiet, mininterval=1):
            for name in str(row["path"]).split(JOINED):
                _check_file(Path(name), f"{manifest}, line {line}")


def _check_file(path: Path, where: str) -> None:
    import soundfile

    if not path.is_file():
        raise UserError(f"{where}: no such file: {path}")
    try:
        frames = soundfile.info(path).frames
    except soundfile.LibsndfileError as error:
        raise UserError(f"{where}: {path} is not a sound file that can be read ({error})") from error
    if not frames:
        raise UserError(f"{where}: {path} holds no sound")
