"""Weights at a byte each: rows of whole numbers from -127 to 127 and a scale a row, half the size of float16.

For the file alone; a model that is loaded has floating-point weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = ".row_scale"
SHORTEST_ROW = 16  # shorter ones gain little


def packed(state: dict[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The state with the matrices of some parts as int8, each with a float32 scale a row, `NAME.row_scale`."""
    found = dict(state)
    for name, weight in state.items():
        if not name.startswith(prefixes) or weight.ndim < 2 or not weight.is_floating_point():
            continue
        rows = weight.flatten(1)
        if rows.shape[1] >= SHORTEST_ROW:
            scale = (rows.float().abs().amax(dim=1) / 127.0).clamp_min(torch.finfo(torch.float).tiny)
            whole = (rows.float() / scale[:, None]).round()
            found |= {name: whole.to(torch.int8).view_as(weight), name + SCALE: scale}
    return found


def unpacked(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with float32 in the place of what `packed` made."""
    scales = {name.removesuffix(SCALE): scale for name, scale in state.items() if name.endswith(SCALE)}
    plain = {name: weight for name, weight in state.items() if not name.endswith(SCALE)}
    for name, scale in scales.items():
        plain[name] = plain[name].float() * scale.view(-1, *[1] * (plain[name].ndim - 1))
    return plain
