"""Encoder features of a manifest, computed once and kept on disk.

One flat float16 file per manifest and encoder with an index of row offsets, so that training reads
it by memory mapping. Appending is resumable: the index is written after the rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from salmonn_core.audio import fit_length, read_audio
from salmonn_core.errors import UserError

Encode = Callable[[np.ndarray], Tensor]


def read_manifest(path: Path) -> list[dict[str, object]]:
    """Entries of a manifest: JSON lines, or the official `{"annotation": [...]}`.

    Paths are made absolute, relative ones being relative to the manifest's folder.

    Raises:
        UserError: a line that is no JSON or lacks `path` or `text`, with its number.
    """
    text = path.read_text()
    if path.suffix == ".json":
        rows = json.loads(text)["annotation"]
    else:
        rows = [_parse(path, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or "path" not in row or not ("text" in row or "caption" in row):
            raise UserError(f"{path}: entry {number} needs the fields path and text")
        row["path"] = str(path.parent / str(row["path"]))
    return rows


def _parse(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: no JSON ({error})") from error


class FeatureStore:
    """Rows of one encoder for many clips: `store[path]` is (frames, width) float16."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self._width = folder, width
        folder.mkdir(parents=True, exist_ok=True)
        self._index_file = folder / "index.jsonl"
        self.index: dict[str, tuple[int, int]] = {}
        if self._index_file.exists():
            for line in self._index_file.read_text().splitlines():
                path, start, rows = json.loads(line)
                self.index[path] = (start, rows)
        self._data: np.ndarray | None = None

    def add(self, clips: Iterable[tuple[str, np.ndarray]], encode: Encode) -> None:
        """Encode and append the clips that are not there yet."""
        end = max((start + rows for start, rows in self.index.values()), default=0)
        with (self._folder / "rows.f16").open("ab") as rows_file, self._index_file.open("a") as index_file:
            rows_file.truncate(end * self._width * 2)  # rows of a clip whose index line was lost
            for path, wave in clips:
                rows = encode(wave).half().numpy()
                rows_file.write(rows.tobytes())
                rows_file.flush()
                index_file.write(json.dumps([path, end, len(rows)]) + "\n")
                index_file.flush()
                self.index[path] = (end, len(rows))
                end += len(rows)
        self._data = None

    def __contains__(self, path: object) -> bool:
        return path in self.index

    def __getitem__(self, path: str) -> np.ndarray:
        if self._data is None:
            flat = np.memmap(self._folder / "rows.f16", np.float16, "r")
            self._data = flat.reshape(-1, self._width)
        start, rows = self.index[path]
        return self._data[start : start + rows]


def waves(paths: Iterable[str], window_frames: int) -> Iterator[tuple[str, np.ndarray]]:
    """Read and fit clips, one at a time."""
    for path in paths:
        yield path, fit_length(read_audio(path), window_frames)


def whisper_encode(folder: Path) -> Encode:
    """Unpadded bfloat16 Whisper states of one clip: (samples,) to (frames, d_model)."""
    from salmonn_core.whisper import encode_whisper, load_whisper_encoder, log_mel

    encoder = load_whisper_encoder(folder, torch.bfloat16)

    @torch.inference_mode()
    def encode(wave: np.ndarray) -> Tensor:
        return encode_whisper(encoder, log_mel(wave, encoder.config.num_mel_bins, pad_to_30s=False))[0].float()

    return encode


def beats_encode(checkpoint: Path) -> Encode:
    """BEATs states of one clip: (samples,) to (tokens, encoder_embed_dim)."""
    from salmonn_core.training.classify import load_beats

    beats = load_beats(checkpoint).bfloat16()

    @torch.inference_mode()
    def encode(wave: np.ndarray) -> Tensor:
        return beats(torch.from_numpy(wave)[None])[0].float()

    return encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--whisper", type=Path, help="transformers Whisper folder")
    parser.add_argument("--beats", type=Path, help="trained BEATs checkpoint (.safetensors)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--window-frames", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    store = FeatureStore(arguments.out, arguments.width)
    encode = whisper_encode(arguments.whisper) if arguments.whisper else beats_encode(arguments.beats)
    paths = [str(row["path"]) for manifest in arguments.manifests for row in read_manifest(manifest)]
    todo = [path for path in dict.fromkeys(paths) if path not in store]
    progress = tqdm(waves(todo, arguments.window_frames), total=len(todo), mininterval=20)
    store.add(progress, encode)


if __name__ == "__main__":
    main()
