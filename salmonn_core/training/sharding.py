"""Weights of which each process holds a part (FSDP), whole where a checkpoint or a reading of dev clips wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def is_shared_out(model: nn.Module) -> bool:
    """Whether each process holds a part of the model's weights only."""
    return hasattr(model, "unshard")


def whole(tensor: Tensor) -> Tensor:
    """A tensor as one process would have it, on the host, for a file. Of one in parts, all processes have to ask."""
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return tensor.detach().cpu().contiguous()


def in_parts(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process holds of a parameter in parts; else all of it."""
    if not hasattr(like, "device_mesh"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = like
    return distribute_tensor(tensor.to(like.device), sharded.device_mesh, sharded.placements)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Parameters of a model in parts are whole inside: for what does not go through its `forward`."""
    if not is_shared_out(model):
        yield
        return
    sharded: Any = model
    sharded.unshard()
    yield
    sharded.reshard()
