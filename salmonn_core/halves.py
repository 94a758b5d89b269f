"""Work that is done as two threads side by side, each with half of torch's, instead of one whose threads wait for each
other at the end of every small operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from threading import Event
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
LEAST = 8  # of fewer items each half would read the weights for too few


def in_halves(work: Callable[[Sequence[T], Callable[[], bool]], list[R]], items: Sequence[T]) -> list[R]:
    """What `work` makes of some items, one of each: of every other one in a thread of its own.

    Neighbours may be alike in what they cost, so they go to different halves.

    Args:
        work: may run twice at a time, and of each item makes the same whatever else it is given. Told whether to stop,
            since the other half failed or somebody pressed Ctrl-C: then what it returns does not matter.
    """
    threads, stop = torch.get_num_threads(), Event()
    if threads < 2 or len(items) < LEAST:
        return work(items, stop.is_set)
    try:
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(threads // 2,)) as pool:
            try:
                halves = list(pool.map(work, (items[0::2], items[1::2]), repeat(stop.is_set)))
            except BaseException:
                stop.set()  # or the pool would wait until all is done
                raise
    finally:
        torch.set_num_threads(threads)  # what threads that begin later have: each of the two set that as well
    return [halves[at % 2][at // 2] for at in range(len(items))]
