"""Join a stage's checkpoint and the BEATs encoder into the model folder that ships."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from salmonn_core.config import LettersConfig, SalmonnConfig
from salmonn_core.errors import UserError
from salmonn_core.loading import READER, part, save
from salmonn_core.training.checkpoints import newest
from salmonn_core.training.classify import SMALL, load_beats
from salmonn_core.training.config import ExportConfig
from salmonn_core.training.corpus import TINY_LETTERS, TINY_QFORMER
from salmonn_core.training.trainee import TINY_LORA, TINY_PROMPT, described, tokens_of

# What ships at a byte a weight, so that all of it stays under 30 MB.
WHOLE = ("beats.", "bridge.neighbours.", "bridge.qformer.", "letters.", "lora.")


def _blended(trained: dict[str, Tensor], tokens: list[int], earlier: Path) -> dict[str, Tensor]:
    """The mean of two checkpoints' bridges: the LLM's loss draws the later one away from the words, and half way it
    reads better and tells sounds as well (docs/training-log.md)."""
    if tokens_of(earlier) != tokens:
        raise UserError(f"{earlier} reads other tokens than the checkpoint it is to be blended with")
    before = load_file(earlier)
    shared = {k: v for k, v in trained.items() if k.startswith(("bridge.", "head.")) and k in before}
    return {k: (before[k] + v) / 2 for k, v in shared.items()}


def export(config: ExportConfig) -> Path:
    """Write the model folder and return its weight file."""
    file = newest(config.checkpoint)
    trained = load_file(file)
    if config.blend is not None:
        trained |= _blended(trained, tokens_of(file), newest(config.blend))
    state = {k: v for k, v in trained.items() if k.startswith(("bridge.", "lora."))}
    state |= {READER + k: v for k, v in part(trained, "head.").items()}
    state[f"{READER}tokens"] = torch.tensor(tokens_of(file), dtype=torch.int32)
    if not any(key.startswith("lora.") for key in state):
        raise UserError(f"{config.checkpoint} has no LoRA: export a checkpoint of pretrain, instruct or activate")
    letters = load_file(newest(config.letters)) if config.letters else {}
    state |= letters
    state |= {f"beats.{k}": v for k, v in load_beats(config.beats).state_dict().items()}
    model = SalmonnConfig(
        name="salmonn-tiny",
        beats=SMALL,
        qformer=TINY_QFORMER,
        letters=TINY_LETTERS if letters else LettersConfig(),
        lora=TINY_LORA,
        prompt=TINY_PROMPT,
        pad_to_30s=False,
        training_stage=config.stage,
        labels=tuple(json.loads(described(file).get("labels", "[]"))),
        license="Apache-2.0; training data licences are listed in docs/model-card.md",
    )
    save(config.out, model, state, whole=WHOLE)
    return config.out / "salmonn.safetensors"
