"""Loading weights without surprises: safetensors only, and every misfit is an error that lists the keys."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from salmonn_core.errors import UserError

SHOWN = 8


def describe_misfit(missing: set[str], unexpected: set[str], misshaped: list[str]) -> str:
    """One line that names what does not fit, the first few of each kind."""
    parts = []
    for word, keys in (("missing", sorted(missing)), ("unexpected", sorted(unexpected)), ("wrong shape", misshaped)):
        if keys:
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            parts.append(f"{len(keys)} {word}: {', '.join(keys[:SHOWN])}{more}")
    return "; ".join(parts)


def assign(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Give a module its weights, each exactly once.

    Raises:
        UserError: listing missing, unexpected and misshaped keys; the module is then untouched.
    """
    expected = module.state_dict()
    missing, unexpected = set(expected) - set(tensors), set(tensors) - set(expected)
    misshaped = [
        f"{key} is {tuple(tensors[key].shape)}, should be {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if missing or unexpected or misshaped:
        raise UserError(f"{where} does not fit the model: {describe_misfit(missing, unexpected, misshaped)}")
    module.load_state_dict(tensors, strict=True, assign=True)


def read_safetensors(path: Path, prefix: str = "", dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names start with `prefix`, the prefix removed.

    Raises:
        UserError: no such file, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"no weights at {path}; run: assistant weights pull")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = {name[len(prefix) :]: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run: assistant weights pull") from error
    return tensors if dtype is None else {name: tensor.to(dtype) for name, tensor in tensors.items()}


def load_subset(module: nn.Module, path: Path, prefix: str, dtype: torch.dtype) -> None:
    """Load the part of a safetensors file that belongs to `module`."""
    assign(module, read_safetensors(path, prefix, dtype), str(path))
