"""Clips with cached encoder features and texts, served in length-bucketed batches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from salmonn_core.config import BeatsConfig, LettersConfig, QFormerConfig
from salmonn_core.prompts import ALIASES
from salmonn_core.training.features import WINDOW_FRAMES, FeatureStore
from salmonn_core.training.manifests import read_manifest
from salmonn_core.training.texts import plain

SPEECH_WIDTH = 512
MAX_CLIP_S = 28.0
FEWEST_WINDOWS = 5  # 1.2 s
LONGEST_SPAN = 8  # frames that are hidden together
KIND_OF_TASK = {"audiocaption": "event", "music_description": "music"}
TINY_QFORMER = QFormerConfig(
    hidden_size=384,
    attention_heads=6,
    intermediate_size=1536,
    queries=3,
    window_s=0.24,
    stride_s=0.24,
    context_s=0.24,
    neighbours=8,
)
TINY_LETTERS = LettersConfig(width=320, blocks=11)

Span = tuple[float, float]  # start and end as shares of a clip
WHOLE: Span = (0.0, 1.0)
Pair = tuple[Tensor, Tensor]  # Whisper (frames, speech_width) and BEATs states (tokens, audio_width)


@dataclass(frozen=True)
class Clip:
    """One clip: where it is, what is said or heard in it, and whatever else its manifest knows."""

    path: str
    kind: str  # "speech" | "event" | "music"
    text: str  # the transcript, or the labels of a sound
    caption: str
    row: dict[str, object]
    task: str | None = None  # what its manifest asks of it; None: whatever its kind allows


def load_clips(manifests: Sequence[Path]) -> list[Clip]:
    """Clips of several manifests, those too long left out."""
    rows = (row for manifest in manifests for row in read_manifest(manifest))
    return [_clip(row) for row in rows if float(row.get("duration_s", 1.0)) <= MAX_CLIP_S]  # type: ignore[arg-type]


def _clip(row: dict[str, object]) -> Clip:
    named = row.get("task")
    task = ALIASES.get(str(named), str(named)) if named else None
    kind = str(row.get("kind") or KIND_OF_TASK.get(task or "asr", "speech"))
    caption = str(row.get("caption") or (row.get("text") if task in KIND_OF_TASK else "") or "")
    # The answer to any other task is no transcript: the CTC term must not ask for it.
    text = plain(str(row.get("text", ""))) if kind == "speech" and task in (None, "asr") else ""
    if kind != "speech":
        text = ", ".join((row.get("labels") or [])[:3])  # type: ignore[index]
    return Clip(str(row["path"]), kind, text, caption, row, task)


class Features:
    """Whisper and BEATs states of a clip from several stores; BEATs states may be missing altogether."""

    def __init__(self, whisper: Sequence[Path], beats: Sequence[Path], beats_config: BeatsConfig) -> None:
        self.whisper = [FeatureStore(folder, SPEECH_WIDTH) for folder in whisper]
        self._audio_width = beats_config.encoder_embed_dim
        self.beats = [FeatureStore(folder, self._audio_width) for folder in beats]

    def keep_on(self, device: torch.device) -> None:
        """As `FeatureStore.keep_on`, each store in turn."""
        for store in (*self.whisper, *self.beats):
            store.keep_on(device)

    def __contains__(self, path: object) -> bool:
        return any(path in store for store in self.whisper)

    def frames(self, path: str) -> int:
        return next(store.index[path][1] for store in self.whisper if path in store)

    def some(self, count: int) -> list[str]:
        """The first few clips of the first store."""
        return list(self.whisper[0].index)[:count]

    def __getitem__(self, path: str) -> Pair:
        """(frames, speech_width) and (tokens, audio_width), float32."""
        speech = next(store.states(path) for store in self.whisper if path in store)
        found = next((store.states(path) for store in self.beats if path in store), None)
        return speech, speech.new_zeros(0, self._audio_width) if found is None else found


def cut(pair: Pair, span: Span) -> Pair:
    """The states of a part of a clip, in whole windows; a clip of a window or two stays whole."""
    speech, audio = pair
    windows = whole_windows(len(speech) // WINDOW_FRAMES, span)
    if windows is None:
        return pair
    ratio = len(audio) / len(speech)
    at = slice(windows.start * WINDOW_FRAMES, windows.stop * WINDOW_FRAMES)
    return speech[at], audio[round(at.start * ratio) : round(at.stop * ratio)]


def masked(states: Tensor, share: float) -> Tensor:
    """A copy without some channels and some spans of 0.16 s at most, each about a share: SpecAugment (Park et al. 2019)
    on encoder states, so that no word hangs on a single place or feature."""
    if not len(states):
        return states
    spans = round(2.0 * share * len(states) / LONGEST_SPAN)
    since = torch.arange(len(states)) - torch.randint(len(states), (spans, 1))
    hidden = ((since >= 0) & (since < torch.randint(1, LONGEST_SPAN + 1, (spans, 1)))).any(dim=0)
    kept = torch.rand(states.shape[1]) >= share
    return states * (~hidden).to(states)[:, None] * kept.to(states)


def whole_windows(windows: int, span: Span) -> slice | None:
    """Which of a clip's windows a part of it has; None is all of them."""
    first, last = round(span[0] * windows), round(span[1] * windows)
    return None if span == WHOLE or last - first < FEWEST_WINDOWS else slice(first, last)


def bucketed(
    items: Sequence[tuple[int, int]], budget: int, rng: random.Random, pool: int = 1024
) -> Iterator[list[int]]:
    """One pass over items in batches of similar length.

    Args:
        items: (index, length) pairs.
        budget: most (longest length x count) of a batch.
        pool: how many shuffled items are sorted at a time; larger is faster and less random.
    """
    order = list(items)
    rng.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        batch: list[int] = []
        for index, length in sorted(order[start : start + pool], key=lambda item: item[1]):
            if batch and length * (len(batch) + 1) > budget:
                batches.append(batch)
                batch = []
            batch.append(index)
        batches.append(batch)
    rng.shuffle(batches)
    yield from batches
