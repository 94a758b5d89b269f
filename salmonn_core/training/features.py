"""Encoder features of a manifest, computed once and kept on disk.

One flat float16 file per manifest and encoder with an index of row offsets, so that training reads
it by memory mapping. Appending is resumable: the index is written after the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from salmonn_core.audio import fit_length
from salmonn_core.config import SAMPLE_RATE
from salmonn_core.loading import float_type
from salmonn_core.training.manifests import read_clip

WINDOW_FRAMES = 12
READERS = 16  # threads that decode sound files ahead of a GPU
READ_AHEAD, TOGETHER_S = 2048, 600  # clips that are read and sorted by length, and seconds that a GPU encodes at once

# Clips of one length, (samples,) each, to (rows, width) each.
Encode = Callable[[Sequence[np.ndarray]], Sequence[Tensor]]
Waves = Iterable[tuple[Sequence[str], Sequence[np.ndarray]]]  # paths and clips that are encoded together


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
        self._kept: Tensor | None = None

    def add(self, clips: Waves, encode: Encode) -> None:
        """Encode and append clips that are not there yet."""
        end = max((start + rows for start, rows in self.index.values()), default=0)
        with (self._folder / "rows.f16").open("ab") as rows_file, self._index_file.open("a") as index_file:
            rows_file.truncate(end * self._width * 2)  # rows of a clip whose index line was lost
            for paths, waves in clips:
                for path, states in zip(paths, encode(waves), strict=True):
                    rows_file.write(states.half().cpu().numpy().tobytes())
                    rows_file.flush()
                    index_file.write(json.dumps([path, end, len(states)]) + "\n")
                    index_file.flush()
                    self.index[path] = (end, len(states))
                    end += len(states)
        self._data, self._kept = None, None

    def __contains__(self, path: object) -> bool:
        return path in self.index

    def __getitem__(self, path: str) -> np.ndarray:
        start, rows = self.index[path]
        return self._mapped()[start : start + rows]

    def keep_on(self, device: torch.device) -> None:
        """Keep the rows in a GPU's memory if half of what is free holds them: reading them from the host takes longer
        than a step. Without a GPU they stay in their file."""
        if device.type == "cuda" and self.index and self._mapped().nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self._kept = torch.from_numpy(self._mapped()).to(device)

    def states(self, path: str) -> Tensor:
        """(frames, width) float32, where they are kept."""
        start, rows = self.index[path]
        kept = torch.from_numpy(self._mapped()) if self._kept is None else self._kept
        return kept[start : start + rows].float()

    def _mapped(self) -> np.ndarray:
        """(rows of all clips, width) float16 of the file."""
        if self._data is None:
            self._data = np.memmap(self._folder / "rows.f16", np.float16, "c").reshape(-1, self._width)
        return self._data


def accelerator() -> str:
    """Where encoders run: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def waves(paths: Iterable[str]) -> Waves:
    """Read and fit clips: one at a time, or for a GPU many of one length, which it encodes together."""
    todo = iter(paths)
    if accelerator() == "cpu":
        yield from (([path], [_wave(path)]) for path in todo)
        return
    with ThreadPoolExecutor(READERS) as readers:
        # Some thousands at a time: a pool that is given all paths at once reads the whole corpus into memory.
        while several := list(readers.map(lambda path: (path, _wave(path)), islice(todo, READ_AHEAD))):
            several.sort(key=lambda clip: len(clip[1]))
            for samples, alike in groupby(several, key=lambda clip: len(clip[1])):
                while some := list(islice(alike, max(1, TOGETHER_S * SAMPLE_RATE // samples))):
                    yield [path for path, _ in some], [wave for _, wave in some]


def _wave(path: str) -> np.ndarray:
    return fit_length(read_clip(path), WINDOW_FRAMES)


def whisper_encode(folder: Path) -> Encode:
    """Unpadded Whisper states: (frames, d_model) a clip."""
    from salmonn_core.whisper import encode_whisper, load_whisper_encoder, log_mel

    device = accelerator()
    encoder = load_whisper_encoder(folder, float_type(device, "auto"), device)
    bins = encoder.config.num_mel_bins

    @torch.inference_mode()
    def encode(clips: Sequence[np.ndarray]) -> list[Tensor]:
        mels = log_mel(list(clips), bins, pad_to_30s=False, device=device).to(device)
        return encode_whisper(encoder, list(mels.split(1)))

    return encode


def beats_encode(checkpoint: Path) -> Encode:
    """BEATs states: (tokens, encoder_embed_dim) a clip."""
    from salmonn_core.training.classify import load_beats

    device = accelerator()
    beats = load_beats(checkpoint).to(device, float_type(device, "auto"))

    @torch.inference_mode()
    def encode(clips: Sequence[np.ndarray]) -> list[Tensor]:
        return list(beats(torch.from_numpy(np.stack(clips)).to(device)))

    return encode


def fill(stores: Sequence[FeatureStore], paths: Iterable[str], encoder: Callable[[], Encode], name: str) -> None:
    """Compute what none of the stores has of some clips into the first, with a progress bar; the encoder is loaded only
    if something is missing."""
    todo = [path for path in dict.fromkeys(paths) if not any(path in store for store in stores)]
    if todo:
        with tqdm(total=len(todo), desc=f"{name} features", mininterval=1) as bar:
            stores[0].add(_counted(waves(todo), bar), encoder())


def _counted(clips: Waves, bar: tqdm) -> Waves:
    for several in clips:
        yield several
        bar.update(len(several[0]))
