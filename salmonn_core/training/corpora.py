"""Recordings in the layouts in which the public corpora come, as manifest entries."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from salmonn_core.errors import UserError
from salmonn_core.training.config import Corpus
from salmonn_core.training.manifests import Row, read_manifest
from salmonn_core.training.texts import plain

AUDIO = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")


def _table(path: Path, needed: set[str], delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Rows of a CSV with its line in `_line`.

    Raises:
        UserError: no such table, or columns that are missing.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: is this the corpus's own layout?")
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(
            file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        )
        if missing := needed - set(rows.fieldnames or ()):
            raise UserError(f"{path}, line 1: no column {sorted(missing)[0]!r}")
        for row in rows:
            yield row | {"_line": str(rows.line_num)}


def _speech(path: Path, text: str, speaker: str) -> Row:
    return {
        "path": str(path),
        "kind": "speech",
        "task": "asr",
        "text": plain(text),
        "text_raw": text,
        "speaker": speaker,
    }


def _sound(path: Path, caption: str, labels: list[str], kind: str = "event") -> Row:
    task = "audiocaption" if kind == "event" else "music_description"
    return {"path": str(path), "kind": kind, "task": task, "text": caption, "caption": caption, "labels": labels}


def librispeech(folder: Path) -> Iterator[Row]:
    """`SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt` beside the FLAC files, at any depth."""
    for transcript in sorted(folder.rglob("*.trans.txt")):
        for line in transcript.read_text().splitlines():
            name, _, text = line.partition(" ")
            yield _speech(transcript.parent / f"{name}.flac", text, f"librispeech-{name.split('-')[0]}")


def common_voice(folder: Path) -> Iterator[Row]:
    """`validated.tsv` (or `train.tsv`) and `clips/`."""
    table = next((p for p in (folder / "validated.tsv", folder / "train.tsv") if p.exists()), folder / "validated.tsv")
    for row in _table(table, {"client_id", "path", "sentence"}, "\t"):
        yield _speech(folder / "clips" / row["path"], row["sentence"], f"common-voice-{row['client_id'][:16]}")


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO}


def audiocaps(folder: Path) -> Iterator[Row]:
    """`train.csv` with YouTube ids, and the clips that a user has of them, named `ID`, `YID` or `ID_START`."""
    have = _by_stem(folder)
    for row in _table(folder / "train.csv", {"youtube_id", "start_time", "caption"}):
        name = row["youtube_id"]
        path = have.get(name) or have.get(f"Y{name}") or have.get(f"{name}_{row['start_time']}")
        if path:
            yield _sound(path, row["caption"], [])


def clotho(folder: Path) -> Iterator[Row]:
    """`clotho_captions_development.csv` and `development/`; each of the five captions is one entry."""
    for row in _table(folder / "clotho_captions_development.csv", {"file_name", "caption_1"}):
        for number in range(1, 6):
            if caption := row.get(f"caption_{number}"):
                yield _sound(folder / "development" / row["file_name"], caption, [])


def esc_50(folder: Path) -> Iterator[Row]:
    """`meta/esc50.csv` and `audio/`; fold 5 is left out, to measure on."""
    for row in _table(folder / "meta" / "esc50.csv", {"filename", "fold", "category"}):
        if row["fold"] != "5":
            label = row["category"].replace("_", " ")
            yield _sound(folder / "audio" / row["filename"], f"The sound of {label}.", [label])


def musiccaps(folder: Path) -> Iterator[Row]:
    """`musiccaps-public.csv` and the clips that a user has of it, named `YTID` or `YTID_START`."""
    have = _by_stem(folder)
    for row in _table(folder / "musiccaps-public.csv", {"ytid", "start_s", "caption", "is_audioset_eval"}):
        path = have.get(row["ytid"]) or have.get(f"{row['ytid']}_{row['start_s']}")
        if path and row["is_audioset_eval"].lower() != "true":
            yield _sound(path, row["caption"], [], "music")


LAYOUTS: dict[str, tuple[Callable[[Path], Iterator[Row]], str]] = {
    "librispeech": (librispeech, "CC-BY-4.0"),
    "common-voice": (common_voice, "CC0-1.0"),
    "audiocaps": (audiocaps, "captions MIT; recordings of YouTube's users"),
    "clotho": (clotho, "captions Tampere University; recordings by their Freesound licences"),
    "esc-50": (esc_50, "CC-BY-NC-3.0"),
    "musiccaps": (musiccaps, "captions CC-BY-SA-4.0; recordings of YouTube's users"),
}


def entries(corpus: Corpus) -> list[Row]:
    """Manifest entries with absolute paths, source and licence.

    Raises:
        UserError: no such folder, another layout, or nothing in it.
    """
    if not corpus.path.exists():
        raise UserError(f"corpus {corpus.name}: nothing at {corpus.path}")
    if corpus.layout == "manifest":
        rows = read_manifest(corpus.path)
        known = {"source": corpus.name, "license": corpus.license or "not stated"}
    else:
        read, license_ = LAYOUTS[corpus.layout]
        rows = list(read(corpus.path))
        known = {"source": corpus.layout, "license": corpus.license or license_}
    if not rows:
        raise UserError(f"corpus {corpus.name}: no recordings of layout {corpus.layout} in {corpus.path}")
    return [known | row for row in rows[: corpus.limit]]
