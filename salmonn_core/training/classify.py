"""Train BEATs-small from nothing as a sound and music tagger, so that it hears before it joins the model.

Multi-label binary cross-entropy on the mean of the token logits (as the published fine-tuned BEATs),
and, since two thousand labelled clips are few for a transformer, a dense teacher: each 160 ms of
tokens also predicts the direction of the Whisper encoder's states there.
Augmentation acts on the power spectrogram: random crop, gain, mixing of two clips, masked bands.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from tqdm import tqdm

from salmonn_core.audio import MIN_SAMPLES, read_audio
from salmonn_core.beats import Beats
from salmonn_core.config import BeatsConfig, from_dict
from salmonn_core.fbank import DEVIATION, MEAN, kaldi_fbank
from salmonn_core.loading import part, read_config, read_weights
from salmonn_core.processor import multiplies_bfloat16
from salmonn_core.training.config import TagConfig
from salmonn_core.training.features import FeatureStore
from salmonn_core.training.learned import located
from salmonn_core.training.manifests import read_manifest
from salmonn_core.weights.safe import assign, read_safetensors, write_safetensors

SMALL = BeatsConfig(
    embed_dim=256,
    encoder_embed_dim=256,
    encoder_ffn_embed_dim=768,
    encoder_layers=4,
    encoder_attention_heads=4,
)
CROP_FRAMES = 304  # 3 s
MIN_CLIPS_PER_LABEL = 4
BANDS = 8  # BEATs tokens for each 160 ms
TEACHER_WIDTH, TEACHER_WEIGHT = 512, 20.0


def load_beats(path: Path) -> Beats:
    """The encoder of a checkpoint written by this module, without its tagging head, or of a model by name or folder."""
    if (folder := located(path)).is_dir():
        config, weights = read_config(folder).beats, part(read_weights(folder), "beats.")
    else:
        with safe_open(path, framework="pt") as file:
            config = from_dict(BeatsConfig, json.loads(file.metadata()["config"]), str(path))
        weights = read_safetensors(path, "beats.")
    beats = Beats(config).eval()
    assign(beats, weights, str(path))
    return beats


class Tagger(nn.Module):
    """BEATs and a linear head; logits are the mean over tokens."""

    def __init__(self, config: BeatsConfig, labels: int) -> None:
        super().__init__()
        self.beats = Beats(config)
        self.head = nn.Linear(config.encoder_embed_dim, labels)
        self.student = nn.Linear(config.encoder_embed_dim, TEACHER_WIDTH)
        # Rare labels: start by saying no, so that the first steps are not spent on learning that.
        nn.init.constant_(self.head.bias, -4.0)

    def forward(self, fbank: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, 128) normalised to (batch, labels) logits and (batch, frames // 16, 512) predictions."""
        tokens = self.beats.forward_fbank(fbank)
        return self.head(tokens).mean(dim=1), self.student(tokens.unflatten(1, (-1, BANDS)).mean(dim=2))


class Clips:
    """Raw log-mel of every clip in memory (float16) with its label vector."""

    def __init__(self, rows: list[dict[str, object]], labels: list[str], teacher: FeatureStore | None = None) -> None:
        self.teacher, self.paths = teacher, [str(row["path"]) for row in rows]
        self.fbanks, targets = [], []
        for row in tqdm(rows, desc="fbank", mininterval=20):
            wave = read_audio(str(row["path"]))
            wave = np.pad(wave, (0, max(0, MIN_SAMPLES - len(wave))))
            self.fbanks.append(kaldi_fbank(torch.from_numpy(wave)[None])[0].half())
            names = labels_of(row)
            targets.append(torch.tensor([float(label in names) for label in labels]))
        self.targets = torch.stack(targets)

    def crop(self, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random piece, short clips repeated: (CROP_FRAMES, 128) log-mel and (CROP_FRAMES // 16, 512) teacher."""
        assert self.teacher is not None
        fbank = self.fbanks[index].float()
        states = torch.from_numpy(self.teacher[self.paths[index]].astype(np.float32))[: len(fbank) // 2]
        fbank = fbank[: 2 * len(states)]
        times = -(-CROP_FRAMES // len(fbank))
        fbank, states = fbank.repeat(times, 1), states.repeat(times, 1)
        start = 2 * int(torch.randint((len(fbank) - CROP_FRAMES) // 2 + 1, (1,), generator=generator))
        states = states[start // 2 : (start + CROP_FRAMES) // 2]
        return fbank[start : start + CROP_FRAMES], states.unflatten(0, (-1, BANDS)).mean(dim=1)

    def batch(self, indices: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Augmented (batch, CROP_FRAMES, 128), targets (batch, labels), teacher states, and which were mixed."""
        pairs = [self.crop(i, generator) for i in indices]
        crops, states = torch.stack([crop for crop, _ in pairs]), torch.stack([state for _, state in pairs])
        targets = self.targets[indices]
        crops = crops + torch.rand(len(indices), 1, 1, generator=generator) * 6.0 - 4.0  # -17 to +9 dB
        other = torch.randperm(len(indices), generator=generator)
        mixed = torch.rand(len(indices), generator=generator) < 0.25
        level = torch.rand(len(indices), 1, 1, generator=generator) * 2.0  # the other is up to 9 dB softer
        crops = torch.where(mixed[:, None, None], torch.logaddexp(crops, crops[other] - level), crops)
        targets = torch.where(mixed[:, None], torch.maximum(targets, targets[other]), targets)
        crops = (crops - MEAN) / (2.0 * DEVIATION)
        for crop in crops:
            low = int(torch.randint(0, 112, (1,), generator=generator))
            crop[:, low : low + int(torch.randint(0, 16, (1,), generator=generator))] = 0.0
            begin = int(torch.randint(0, CROP_FRAMES - 64, (1,), generator=generator))
            crop[begin : begin + int(torch.randint(0, 64, (1,), generator=generator))] = 0.0
        return crops, targets, states, mixed


def labels_of(row: dict[str, object]) -> set[str]:
    names = row.get("labels") or ["speech"]
    return set(names)  # type: ignore[call-overload]


def accuracy(model: Tagger, clips: Clips) -> float:
    """Share of clips whose highest label is one of theirs; (unaugmented, whole clip up to 10 s)."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for fbank, target in zip(clips.fbanks, clips.targets, strict=True):
            logits = model((fbank[None, :1000].float() - MEAN) / (2.0 * DEVIATION))[0][0]
            right += bool(target[logits.argmax()])
    model.train()
    return right / len(clips.fbanks)


def train(arguments: TagConfig) -> None:
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    data: Path = arguments.data
    sounds = read_manifest(data / "train" / "sound.jsonl")
    speech = read_manifest(data / "train" / "speech.jsonl")[:: arguments.every_speech]
    counts = Counter(label for row in sounds + speech for label in labels_of(row))
    labels = sorted(label for label, count in counts.items() if count >= MIN_CLIPS_PER_LABEL)
    clips = Clips(sounds + speech, labels, FeatureStore(arguments.teacher, TEACHER_WIDTH))
    dev_rows = [r for r in read_manifest(data / "dev" / "sound.jsonl") if labels_of(r) & set(labels)]
    dev = Clips(dev_rows, labels)
    model = Tagger(SMALL, len(labels))
    weights = torch.tensor([1.0 / max(counts[n] for n in labels_of(row)) ** 0.5 for row in sounds + speech])
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.lr, total_steps=arguments.steps, pct_start=0.1)
    bar = tqdm(range(1, arguments.steps + 1), desc="beats")
    for step in bar:
        indices = torch.multinomial(weights, arguments.batch, replacement=True, generator=generator).tolist()
        crops, targets, states, mixed = clips.batch(indices, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16()):
            logits, predicted = model(crops)
        tagging = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / arguments.batch
        unlike = 1.0 - F.cosine_similarity(predicted.float(), F.layer_norm(states, states.shape[-1:]), dim=-1)
        loss = tagging + TEACHER_WEIGHT * unlike[~mixed].mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(tagging=f"{tagging.item():.3f}", teacher=f"{unlike[~mixed].mean().item():.3f}")
        if step % 100 == 0 or step == arguments.steps:
            tqdm.write(f"step {step} dev top-1 {accuracy(model, dev):.3f}")
            save(model, labels, arguments.out)


def save(model: Tagger, labels: list[str], path: Path) -> None:
    metadata = {"config": json.dumps(asdict(SMALL)), "labels": json.dumps(labels)}
    write_safetensors(model.state_dict(), path, metadata)
