"""Join a stage's checkpoint and the BEATs encoder into the model folder that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from salmonn_core.config import LettersConfig, SalmonnConfig
from salmonn_core.errors import UserError
from salmonn_core.loading import READER, model_folder, part, read_config, read_weights, save
from salmonn_core.training.classify import SMALL, load_beats
from salmonn_core.training.config import ExportConfig
from salmonn_core.training.corpus import TINY_LETTERS, TINY_QFORMER
from salmonn_core.training.learned import learned, letters_of
from salmonn_core.training.trainee import TINY_LORA, TINY_PROMPT

# What ships at a byte a weight, so that all of it stays under 30 MB.
WHOLE = ("beats.", "bridge.neighbours.", "bridge.qformer.", "letters.", "lora.")
TINY = SalmonnConfig(
    name="salmonn-tiny",
    beats=SMALL,
    qformer=TINY_QFORMER,
    letters=LettersConfig(),
    lora=TINY_LORA,
    prompt=TINY_PROMPT,
    pad_to_30s=False,
    license="Apache-2.0; training data licences are listed in docs/model-card.md",
)


def _blended(trained: dict[str, Tensor], tokens: list[int], earlier: Path) -> dict[str, Tensor]:
    """The mean of two checkpoints' bridges: the LLM's loss draws the later one away from the words, and half way it
    reads better and tells sounds as well (docs/training-log.md)."""
    known = learned(earlier)
    if known.tokens != tokens:
        raise UserError(f"{earlier} reads other tokens than the checkpoint it is to be blended with")
    before = known.weights
    shared = {k: v for k, v in trained.items() if k.startswith(("bridge.", "head.")) and k in before}
    return {k: (before[k] + v) / 2 for k, v in shared.items()}


def _further(trained: dict[str, Tensor], base: dict[str, Tensor], further: float) -> dict[str, Tensor]:
    """The LoRA so many times as far from the base's as training took it: a run that was ended early goes on."""
    lora = {key: value for key, value in trained.items() if key.startswith("lora.")}
    if any(key not in base or base[key].shape != value.shape for key, value in lora.items()):
        raise UserError("further: the base's LoRA is of another size than the checkpoint's")
    return {key: torch.lerp(base[key], value, further) for key, value in lora.items()}


def export(config: ExportConfig) -> Path:
    """Write the model folder and return its weight file."""
    done = learned(config.checkpoint)
    trained = done.weights
    if not part(trained, "lora."):
        raise UserError(f"{config.checkpoint} has no LoRA: export a checkpoint of pretrain, instruct or activate")
    if config.blend is not None:
        trained |= _blended(trained, done.tokens, config.blend)
    if config.base is not None and config.further != 1.0:
        trained |= _further(trained, learned(config.base).weights, config.further)
    model, state = _others(config)
    state |= {k: v for k, v in trained.items() if k.startswith(("bridge.", "lora."))}
    state |= {READER + k: v for k, v in part(trained, "head.").items()}
    state[f"{READER}tokens"] = torch.tensor(done.tokens, dtype=torch.int32)
    save(config.out, replace(model, training_stage=config.stage, labels=tuple(done.labels)), state, whole=WHOLE)
    return config.out / "salmonn.safetensors"


def _others(config: ExportConfig) -> tuple[SalmonnConfig, dict[str, Tensor]]:
    """The model's settings, and the weights that the checkpoint does not hold: the BEATs encoder's and the letters'."""
    if config.base is not None:
        folder = model_folder(config.base)
        model = read_config(folder)
        state = {k: v for k, v in read_weights(folder).items() if k.startswith(("beats.", "letters."))}
    else:
        assert config.beats is not None
        model = TINY
        state = {f"beats.{k}": v for k, v in load_beats(config.beats).state_dict().items()}
    if config.letters is None:
        return model, state
    sizes = replace(model.letters, width=TINY_LETTERS.width, blocks=TINY_LETTERS.blocks)
    beats = {k: v for k, v in state.items() if k.startswith("beats.")}
    return replace(model, letters=sizes), beats | letters_of(config.letters)
