"""The namer of the bridge: logistic regression from how some windows' features are spread to the labels of sounds.

It is fitted when instruction tuning starts, on spans of each clip and with speech as the counterexample. From then on
only the words that it adds are trained: trained on, it would soon know the few sounds of the set by heart.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from salmonn_core.bridge import Bridge
from salmonn_core.namer import described, moments
from salmonn_core.training.corpus import Clip, Features
from salmonn_core.training.pieces import Pieces

EPOCHS, BATCH, RATE, DECAY, DROPOUT = 150, 256, 2e-3, 0.1, 0.3
UNLIKELY = -4.0  # where the logits start
COUNTEREXAMPLES = 0.6  # clips of speech for each clip with labels
LOUDNESS = 2.0  # of the words that a logit of one adds to a token; tokens are about 3.2 long


def labels_of(clip: Clip) -> list[str]:
    """What a sound or a piece of music is labelled with, each once; nothing for speech and for scenes."""
    if clip.kind == "speech" or clip.task not in (None, "audiocaption", "music_description"):
        return []
    facts = [f"{clip.row[key]} {noun}" for key, noun in (("tempo", "tempo"), ("mode", "key")) if clip.row.get(key)]
    labels: list[str] = [*(clip.row.get("labels") or ()), *(clip.row.get("instruments") or ())]  # type: ignore[misc]
    return list(dict.fromkeys([*labels, *facts]))


def known_labels(clips: Sequence[Clip]) -> list[str]:
    """All labels of a set, sorted."""
    return sorted({label for clip in clips for label in labels_of(clip)})


def targets(clips: Sequence[Clip], labels: Sequence[str]) -> Tensor:
    """(clips, labels), one where a clip has the label; labels that are not known do not count."""
    number = {label: i for i, label in enumerate(labels)}
    found = torch.zeros(len(clips), len(labels))
    for row, clip in enumerate(clips):
        found[row, [number[label] for label in labels_of(clip) if label in number]] = 1.0
    return found


def words_of(labels: Sequence[str], embeddings: Tensor, pieces: Pieces) -> Tensor:
    """(labels, width) directions of each label's words, without what they all have in common."""
    mean = torch.stack([F.normalize(embeddings[pieces.ids(label)].float(), dim=-1).mean(dim=0) for label in labels])
    return F.normalize(mean - mean.mean(dim=0), dim=-1)


def fit(bridge: Bridge, clips: Sequence[Clip], features: Features, labels: Sequence[str], words: Tensor) -> None:
    """Fit the bridge's namer on the clips of a set.

    Args:
        words: of the labels, (labels, llm_width).
    """
    namer = bridge.namer
    if namer is None:
        raise ValueError("this bridge has no namer")
    rng = random.Random("namer")
    sounds = [clip for clip in clips if labels_of(clip)]
    speech = [clip for clip in clips if clip.kind == "speech"]
    speech = rng.sample(speech, min(len(speech), round(COUNTEREXAMPLES * len(sounds))))
    chosen = [*sounds, *speech]
    with torch.inference_mode():
        measured = [moments(bridge.windows(bridge.join(*features[clip.path]))) for clip in chosen]
    sums = [F.pad(each.cumsum(dim=0), (0, 0, 0, 0, 1, 0)) for each in measured]
    seen = torch.stack([_span(total, rng) for total in sums])
    centre, spread = seen.mean(dim=0), seen.std(dim=0) + 1e-5
    linear = _regression(sums, targets(chosen, labels), centre, spread, rng)
    with torch.no_grad():
        namer.label.weight.copy_(linear.weight / spread)
        namer.label.bias.copy_(linear.bias - linear.weight @ (centre / spread))
        namer.words.weight.copy_(LOUDNESS * words.T)


def _regression(sums: list[Tensor], wanted: Tensor, centre: Tensor, spread: Tensor, rng: random.Random) -> nn.Linear:
    linear = nn.Linear(len(centre), wanted.shape[1])
    nn.init.zeros_(linear.weight)
    nn.init.constant_(linear.bias, UNLIKELY)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=RATE, weight_decay=DECAY)
    cooling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in tqdm(range(EPOCHS), desc="naming"):
        spans = (torch.stack([_span(total, rng) for total in sums]) - centre) / spread
        for rows in torch.tensor(rng.sample(range(len(sums)), len(sums))).split(BATCH):
            logits = linear(F.dropout(spans[rows], DROPOUT))
            loss = F.binary_cross_entropy_with_logits(logits, wanted[rows], reduction="none").sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        cooling.step()
    return linear


def _span(total: Tensor, rng: random.Random) -> Tensor:
    """What some windows in a row are like, from one to all of them, given the running sum of their moments."""
    windows = len(total) - 1
    length = max(1, round(windows * rng.random()))
    start = rng.randint(0, windows - length)
    return described((total[start + length] - total[start]) / length)
