"""A model without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from assistant.records import Prompt, WindowKind


class FakeCore:
    """A model that says the scripted words, and remembers what it was asked.

    Args:
        words: the pieces of every answer, in order.
        hears: what kind every window is.

    Attributes:
        written: what it writes down of the speech for skills that have that done first.
    """

    name = "fake"

    def __init__(self, *words: str, hears: WindowKind = "speech") -> None:
        self.words = list(words) or ["hello ", "there"]
        self.hears: WindowKind = hears
        self.asked: list[Prompt] = []
        self.encoded = 0
        self.written = ""
        self.between: Callable[[], None] = lambda: None

    def encode(self, samples: np.ndarray) -> Any:
        self.encoded += 1
        return len(samples)

    def kind(self, audio: Any) -> WindowKind:
        return self.hears

    def join(self, parts: Sequence[Any]) -> Any:
        return sum(parts)

    def stream(self, audio: Any, prompt: Prompt, cancelled: Callable[[], bool] = lambda: False) -> Iterator[str]:
        self.asked.append(prompt)
        for word in self.words:
            if cancelled():
                return
            yield word
            self.between()

    def transcript(self, audio: Any, prompt: Prompt) -> str:
        return self.written if prompt.settings.words_first else ""
