"""The windows of the last minutes, in memory alone, and what the model made of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np

from assistant.core import NEVER, Core
from assistant.records import AudioWindow, Prompt, WindowKind

KEPT_SECONDS = 600.0  # 38 MB
KEPT_WINDOWS = 50
KEPT_ENCODINGS = 12  # with what the LLM has read of it, up to some 7 MB each on salmonn-tiny


class HeardWindows:
    """The last windows by number, at most so many and so many seconds; the oldest go first."""

    def __init__(self, windows: int = KEPT_WINDOWS, seconds: float = KEPT_SECONDS) -> None:
        self._limit, self._seconds = windows, seconds
        self._kept: dict[int, AudioWindow] = {}

    def add(self, window: AudioWindow) -> list[int]:
        """Keep a window; returns the numbers of those that had to go."""
        self._kept[window.id] = window
        gone = []
        while len(self._kept) > 1 and (len(self._kept) > self._limit or self.seconds > self._seconds):
            gone.append(next(iter(self._kept)))
            del self._kept[gone[-1]]
        return gone

    @property
    def seconds(self) -> float:
        return sum(window.duration_s for window in self._kept.values())

    def get(self, number: int | None) -> AudioWindow | None:
        return None if number is None else self._kept.get(number)

    def neighbour(self, number: int | None, step: int) -> int | None:
        """The number before (-1) or after (+1); the newest if there is none to start from."""
        numbers = list(self._kept)
        if number not in self._kept:
            return numbers[-1] if numbers else None
        at = numbers.index(number) + step
        return numbers[max(0, min(len(numbers) - 1, at))]

    def forget(self, number: int) -> None:
        self._kept.pop(number, None)

    def clear(self) -> None:
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)


class RememberingCore:
    """A core that encodes the same sound only once: a window asked again is answered at once."""

    def __init__(self, core: Core, limit: int = KEPT_ENCODINGS) -> None:
        self.core, self._limit = core, limit
        self._kept: OrderedDict[bytes, Any] = OrderedDict()

    @property
    def name(self) -> str:
        return self.core.name

    @name.setter
    def name(self, name: str) -> None:
        self.core.name = name

    def encode(self, samples: np.ndarray) -> Any:
        key = _fingerprint(samples)
        if key not in self._kept:
            self._kept[key] = self.core.encode(samples)
        self._kept.move_to_end(key)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return self._kept[key]

    def kind(self, audio: Any) -> WindowKind:
        return self.core.kind(audio)

    def stream(self, audio: Any, prompt: Prompt, cancelled: Callable[[], bool] = NEVER) -> Iterator[str]:
        return self.core.stream(audio, prompt, cancelled)

    def forget(self, samples: np.ndarray | None = None) -> None:
        """What was made of one window, or of all of them."""
        if samples is None:
            self._kept.clear()
        else:
            self._kept.pop(_fingerprint(samples), None)


def _fingerprint(samples: np.ndarray) -> bytes:
    return blake2b(np.ascontiguousarray(samples).view(np.uint8).data, digest_size=16).digest()
