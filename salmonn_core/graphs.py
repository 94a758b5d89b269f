"""Passes of fixed shapes as CUDA graphs: launched at once instead of kernel by kernel from Python."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

WARM_UPS = 3  # before a capture, as torch asks
Key = TypeVar("Key")
Result = TypeVar("Result")


def recorded(
    run: Callable[[], Result], device: torch.device, stream: torch.cuda.Stream | None = None
) -> Callable[[], Result]:
    """A pass as a CUDA graph, whose result is overwritten by the next call; on a CPU the pass itself.

    Args:
        stream: what it is recorded on, for one that will run beside others: cuBLAS has a workspace for each stream
            that is recorded on, and all on a device that name none have one stream.
    """
    if device.type != "cuda":
        return run
    with torch.cuda.device(device):  # streams, and Triton's kernels, are the current device's
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream or _shared(device)):
            result = run()

    def replay() -> Result:
        graph.replay()
        return result

    return replay


@lru_cache
def _shared(device: torch.device) -> torch.cuda.Stream:
    """What a device's passes are recorded on; torch's own default stays with the device that was first."""
    return torch.cuda.Stream(device)


class Kept(OrderedDict[Key, Result]):
    """The passes that were used last, so many at most."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def of(self, key: Key, make: Callable[[], Result]) -> Result:
        """The pass of that key, made if it is not there."""
        if key not in self:
            self[key] = make()
            if len(self) > self._most:  # after recording, which waits for whatever still runs
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


class Recorded:
    """A function of tensors that is recorded once for each of the shapes it is given; on a CPU it is just called."""

    def __init__(
        self,
        run: Callable[..., tuple[Tensor, ...]],
        module: nn.Module,
        kept: int = 1,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        """What is recorded reads the weights where they stand then.

        Args:
            module: whose weights it reads.
            kept: how many shapes.
            stream: as in `recorded`.
        """
        self._run, self._module, self._stream = run, module, stream
        self._passes: Kept[tuple[object, ...], Callable[..., tuple[Tensor, ...]]] = Kept(kept)

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        weight = next(self._module.parameters())
        # A module that was moved, or cast, has other weights: what was recorded would read freed memory.
        key = (weight.data_ptr(), weight.dtype, *(value.shape for value in given))
        return self._passes.of(key, lambda: self._prepared(given))(*given)

    def _prepared(self, given: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, ...]]:
        places = [value.clone() for value in given]
        again = recorded(lambda: self._run(*places), places[0].device, self._stream)

        def passed(*values: Tensor) -> tuple[Tensor, ...]:
            for place, value in zip(places, values, strict=True):
                place.copy_(value)
            return tuple(each.clone() for each in again())

        return passed
