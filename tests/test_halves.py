"""Work in two threads, each with half of torch's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from salmonn_core.halves import LEAST, in_halves

Stopped = Callable[[], bool]


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_each_half_has_half_the_threads_and_the_order_stays() -> None:
    both = threading.Barrier(2, timeout=30)  # which neither passes alone

    def squared(numbers: Sequence[int], _: Stopped) -> list[tuple[int, int]]:
        both.wait()
        return [(number**2, torch.get_num_threads()) for number in numbers]

    assert in_halves(squared, range(LEAST + 1)) == [(number**2, 2) for number in range(LEAST + 1)]


def test_everybody_else_has_the_threads_they_had() -> None:
    in_halves(lambda items, _: list(items), range(LEAST))
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [4, 4]


def test_little_work_and_a_single_thread_are_left_alone() -> None:
    here = threading.get_ident()
    assert in_halves(lambda items, _: [threading.get_ident() for _ in items], range(LEAST - 1)) == [here] * (LEAST - 1)
    torch.set_num_threads(1)
    assert in_halves(lambda items, _: [threading.get_ident() for _ in items], range(LEAST)) == [here] * LEAST


def test_an_error_in_a_half_is_told_and_the_threads_come_back() -> None:
    def fails(items: Sequence[int], stopped: Stopped) -> list[int]:
        if not items[0]:
            raise ValueError(f"cannot do {items[0]}")
        deadline = time.monotonic() + 30
        while not stopped() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stopped()  # and not after half a minute
        return list(items)

    with pytest.raises(ValueError, match="cannot do 0"):
        in_halves(fails, range(LEAST))
    assert torch.get_num_threads() == 4
