"""Encoder features of a manifest, computed once and kept on disk.

One flat float16 file per manifest and encoder with an index of row offsets, so that training reads
it by memory mapping. Appending is resumable: the index is written after the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from salmonn_core.audio import fit_length
from salmonn_core.training.manifests import read_clip

WINDOW_FRAMES = 12

Encode = Callable[[np.ndarray], Tensor]


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
        yield path, fit_length(read_clip(path), window_frames)


def whisper_encode(folder: Path) -> Encode:
    """Unpadded bfloat16 Whisper states of one clip: (samples,) to (frames, d_model)."""
    from salmonn_core.whisper import encode_whisper, load_whisper_encoder, log_mel

    encoder = load_whisper_encoder(folder, torch.bfloat16)

    @torch.inference_mode()
    def encode(wave: np.ndarray) -> Tensor:
        return encode_whisper(encoder, [log_mel(wave, encoder.config.num_mel_bins, pad_to_30s=False)])[0].float()

    return encode


def beats_encode(checkpoint: Path) -> Encode:
    """BEATs states of one clip: (samples,) to (tokens, encoder_embed_dim)."""
    from salmonn_core.training.classify import load_beats

    beats = load_beats(checkpoint).bfloat16()

    @torch.inference_mode()
    def encode(wave: np.ndarray) -> Tensor:
        return beats(torch.from_numpy(wave)[None])[0].float()

    return encode


def fill(stores: Sequence[FeatureStore], paths: Iterable[str], encoder: Callable[[], Encode], name: str) -> None:
    """Compute what none of the stores has of some clips into the first, with a progress bar; the encoder is loaded only
    if something is missing."""
    todo = [path for path in dict.fromkeys(paths) if not any(path in store for store in stores)]
    if todo:
        stores[0].add(tqdm(waves(todo, WINDOW_FRAMES), total=len(todo), desc=f"{name} features"), encoder())
