"""Checkpoints of a run: one folder a step, complete or not there at all, nothing pickled.

`step-00000050/` holds `model.safetensors`, `optimizer.safetensors` and `state.json`; where the model is a mean over
steps, also the weights of the step itself, `going.safetensors`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from salmonn_core.errors import UserError
from salmonn_core.training.sharding import in_parts, whole
from salmonn_core.weights.safe import write_safetensors

KEPT = 2
GOING = "going.safetensors"


def folders(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(p for p in run.glob("step-*") if p.suffix != ".partial")


def newest(path: Path) -> Path:
    """The weights of a run's newest checkpoint, or the file itself.

    Raises:
        UserError: nothing there.
    """
    if path.is_file():
        return path
    found = folders(path)
    if not found:
        raise UserError(f"no checkpoint in {path} and no model of that name; run the stage that writes it first")
    return found[-1] / "model.safetensors"


def save_checkpoint(
    run: Path,
    step: int,
    weights: dict[str, Tensor],
    said: dict[str, Any],
    optimizer: dict[str, Tensor],
    state: Any,
    going: dict[str, Tensor] | None = None,
) -> None:
    """Write one checkpoint beside its final name, move it there, and drop all but the newest two.

    Args:
        said: what the weights say of themselves: `salmonn_core.training.learned` reads it.
        going: the weights that training goes on from, if they are others.
    """
    final = run / f"step-{step:08d}"
    partial = final.with_suffix(".partial")
    for leftover in (partial, final):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir(parents=True)
    write_safetensors(weights, partial / "model.safetensors", {name: json.dumps(value) for name, value in said.items()})
    write_safetensors(optimizer, partial / "optimizer.safetensors")
    if going is not None:
        write_safetensors(going, partial / GOING)
    (partial / "state.json").write_text(json.dumps(state, indent=1) + "\n")
    partial.rename(final)
    for old in folders(run)[:-KEPT]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The weights to go on from, optimizer tensors and state of a checkpoint."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    weights = folder / GOING if (folder / GOING).exists() else folder / "model.safetensors"
    return load_file(weights), load_file(folder / "optimizer.safetensors"), state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by `parameter number.name`."""
    state = optimizer.state_dict()["state"]
    return {f"{n}.{k}": whole(v) for n, values in state.items() for k, v in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give back what `optimizer_tensors` took.

    Raises:
        UserError: it was of other parameters.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for at, values in state.items():
        if at >= len(parameters) or any(v.dim() and v.shape != parameters[at].shape for v in values.values()):
            raise UserError(
                "the run in `out` trained other parts of the model: go on with its settings, or choose another"
            )
        state[at] = {k: in_parts(v, parameters[at]) if v.dim() else v for k, v in values.items()}
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
