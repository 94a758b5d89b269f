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
from salmonn_core.training.checkpoints import folders, newest


@dataclass(frozen=True)
class Learned:
    """What has been learned so far.

    Attributes:
        weights: named `bridge.`, `head.` and `lora.`.
        tokens: ids of the tokens that the CTC head knows, in the order of its classes.
        labels: what the namer knows.
    """

    weights: dict[str, Tensor]
    tokens: list[int]
    labels: list[str]


def learned(path: Path) -> Learned:
    """What a checkpoint file, a run's newest checkpoint, or a model by name or folder has learned.

    Raises:
        UserError: nothing there; no stage wrote it; a model without a reader, as the published ones are.
    """
    found = located(path)
    return _of_model(found) if found.is_dir() else _of_checkpoint(found)


def letters_of(path: Path) -> dict[str, Tensor]:
    """The weights `letters.` of a checkpoint of that stage, or of a model by name or folder.

    Raises:
        UserError: nothing there, or no letters in it.
    """
    found = located(path)
    weights = read_weights(found) if found.is_dir() else load_file(found)
    letters = {key: value.float() for key, value in weights.items() if key.startswith("letters.")}
    if not letters:
        raise UserError(f"{found} reads no letters: give a checkpoint of stage letters, or a model that has them")
    return letters


def located(path: Path) -> Path:
    """The file of a checkpoint, or the folder of a model; a run that was exported into its own folder is a run.

    Raises:
        UserError: neither is there.
    """
    model = None if folders(path) else find_model(path)
    return newest(path) if model is None else model


def _of_checkpoint(file: Path) -> Learned:
    with safe_open(file, framework="pt") as opened:
        said: dict[str, str] = opened.metadata() or {}
    if "tokens" not in said:
        raise UserError(f"{file} is no checkpoint of a training stage: it does not say its CTC classes")
    return Learned(load_file(file), json.loads(said["tokens"]), json.loads(said.get("labels", "[]")))


def _of_model(folder: Path) -> Learned:
    weights = read_weights(folder)
    tokens = weights.pop(f"{READER}tokens", None)
    if tokens is None:
        raise UserError(f"{folder}: this model has no reader of its audio tokens; training goes on from models that do")
    kept = {key: value.float() for key, value in weights.items() if key.startswith(("bridge.", "lora."))}
    head = {f"head.{key}": value.float() for key, value in part(weights, READER).items()}
    return Learned(kept | head, tokens.tolist(), list(read_config(folder).labels))
