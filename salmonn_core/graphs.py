"""Passes of fixed shapes as CUDA graphs: launched at once instead of kernel by kernel from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

WARM_UPS = 3  # before a capture, as torch asks
Result = TypeVar("Result")


def recorded(run: Callable[[], Result]) -> Callable[[], Result]:
    """A pass as a CUDA graph; what it returns is overwritten by the next call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Result:
        graph.replay()
        return result

    return replay


class Recorded:
    """A function of tensors that is recorded once for each of the shapes it is given; on a CPU it is just called."""

    def __init__(self, run: Callable[..., tuple[Tensor, ...]], module: nn.Module, kept: int = 1) -> None:
        """Args: module: whose weights it reads, where they stand when it is recorded; kept: how many shapes."""
        self._run, self._module, self._kept = run, module, kept
        self._passes: dict[tuple[object, ...], Callable[..., tuple[Tensor, ...]]] = {}

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        weight = next(self._module.parameters())
        # A module that was moved, or cast, has other weights: what was recorded would read freed memory.
        key = (weight.data_ptr(), weight.dtype, *(value.shape for value in given))
        if key not in self._passes:
            self._passes[key] = self._prepared(given)
            if len(self._passes) > self._kept:  # after recording, which waits for whatever still runs
                self._passes.pop(next(iter(self._passes)))
        self._passes[key] = self._passes.pop(key)  # the one that was used last is the last to be dropped
        return self._passes[key](*given)

    def _prepared(self, given: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, ...]]:
        places = [value.clone() for value in given]
        run = lambda: self._run(*places)  # noqa: E731 - the buffers stand in it
        again = recorded(run) if places[0].device.type == "cuda" else run

        def passed(*values: Tensor) -> tuple[Tensor, ...]:
            for place, value in zip(places, values, strict=True):
                place.copy_(value)
            return tuple(each.clone() for each in again())

        return passed
