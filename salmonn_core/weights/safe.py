"""Loading weights without surprises: safetensors only, and every misfit is an error that lists the keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from salmonn_core.errors import UserError

SHOWN = 8
WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"  # as transformers calls them


def describe_misfit(missing: set[str], unexpected: set[str], misshaped: list[str]) -> str:
    """One line that names what does not fit, the first few of each kind."""
    parts = []
    for word, keys in (("missing", sorted(missing)), ("unexpected", sorted(unexpected)), ("wrong shape", misshaped)):
        if keys:
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            parts.append(f"{len(keys)} {word}: {', '.join(keys[:SHOWN])}{more}")
    return "; ".join(parts)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: no such file, or no JSON, with its line.
    """
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: no JSON ({error.msg})") from error


def check_fit(expected: dict[str, Tensor], tensors: dict[str, Tensor], where: str) -> None:
    """Whether tensors are exactly those that a model expects.

    Raises:
        UserError: listing missing, unexpected and misshaped keys.
    """
    missing, unexpected = set(expected) - set(tensors), set(tensors) - set(expected)
    misshaped = [
        f"{key} is {tuple(tensors[key].shape)}, should be {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if missing or unexpected or misshaped:
        raise UserError(f"{where} does not fit the model: {describe_misfit(missing, unexpected, misshaped)}")


def assign(
    module: nn.Module, tensors: dict[str, Tensor], where: str, device: str = "cpu", dtype: torch.dtype | None = None
) -> None:
    """Give a module its weights, each exactly once and one after the other, so that none is held twice.

    Args:
        tensors: may be memory-mapped; floating-point ones are converted to `dtype`.

    Raises:
        UserError: listing missing, unexpected and misshaped keys; the module is then untouched.
    """
    check_fit(module.state_dict(), tensors, where)
    for name in list(tensors):
        tensor = tensors[name]
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.to(device=device, dtype=wanted)
    module.load_state_dict(tensors, strict=True, assign=True)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a transformers folder: one, or the shards that its index names.

    Raises:
        UserError: there are none.
    """
    index = folder / INDEX_FILE
    if index.exists():
        return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise UserError(f"{folder} has no {WEIGHTS_FILE}; its base model is not whole")
    return [path]


def read_safetensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names start with `prefix`, the prefix removed, memory-mapped.

    Raises:
        UserError: no such file, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"no weights at {path}; run: assistant weights pull")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name[len(prefix) :]: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run: assistant weights pull") from error


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file that whoever may look into its folder can read; safetensors leaves it to its owner alone."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    path.chmod(path.parent.stat().st_mode & 0o666)
