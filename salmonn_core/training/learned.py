"""What a stage goes on from: the checkpoint of another, or a finished model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from salmonn_core.errors import UserError
from salmonn_core.loading import READER, find_model, part, read_config, read_weights
from salmonn_core.training.checkpoints import newest


@dataclass(frozen=True)
class Learned:
    """What has been learned so far.

    Attributes:
        weights: named `bridge.`, `head.` and `lora.`; of a model `beats.` and `letters.` too.
        tokens: ids of the tokens that the CTC head knows, in the order of its classes.
        labels: what the namer knows.
    """

    weights: dict[str, Tensor]
    tokens: list[int]
    labels: list[str]

    def said(self) -> dict[str, str]:
        """What a checkpoint of these weights says of itself."""
        return {"tokens": json.dumps(self.tokens), "labels": json.dumps(self.labels)}


def weights_of(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file, a run's newest checkpoint, or a model by name or folder.

    Raises:
        UserError: nothing there.
    """
    folder = find_model(path)
    return load_file(newest(path)) if folder is None else read_weights(folder)


def learned(path: Path) -> Learned:
    """What a checkpoint file, a run's newest checkpoint, or a model by name or folder has learned.

    Raises:
        UserError: nothing there; no stage wrote it; a model without a reader, as the published ones are.
    """
    folder = find_model(path)
    return _of_checkpoint(newest(path)) if folder is None else _of_model(folder)


def _of_checkpoint(file: Path) -> Learned:
    with safe_open(file, framework="pt") as opened:
        said: dict[str, str] = opened.metadata() or {}
    if "tokens" not in said:
        raise UserError(f"{file} is no checkpoint of a training stage: it does not say its CTC classes")
    return Learned(load_file(file), json.loads(said["tokens"]), json.loads(said.get("labels", "[]")))


def _of_model(folder: Path) -> Learned:
    weights = read_weights(folder)
    reader = part(weights, READER)
    if "tokens" not in reader:
        raise UserError(f"{folder}: this model has no reader of its audio tokens; training goes on from models that do")
    tokens: list[int] = reader.pop("tokens").tolist()
    kept = {key: value for key, value in weights.items() if not key.startswith(READER)}
    heard = {f"head.{key}": value.float() for key, value in reader.items()}
    return Learned({k: v.float() for k, v in kept.items()} | heard, tokens, list(read_config(folder).labels))
