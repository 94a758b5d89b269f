"""What a person lets the session hear: muted, paused, or held open while they talk."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from assistant.events import EarsChange


class Ears:
    """Three switches that any thread may set; `changes` is for the one that listens.

    Attributes:
        muted: silence is heard in place of what comes.
        paused: nothing is heard at all, and the time of the stream stands still.
        talking: a window is open, and only the person ends it.
    """

    def __init__(self) -> None:
        self.muted, self.paused, self.talking = threading.Event(), threading.Event(), threading.Event()
        self._told = (False, False, False)

    def changes(self) -> Iterator[EarsChange]:
        """What was switched since the last call."""
        now = self.muted.is_set(), self.paused.is_set(), self.talking.is_set()
        then, self._told = self._told, now
        for was, is_now, (on, off) in zip(then, now, _WORDS, strict=True):
            if was != is_now:
                yield on if is_now else off


_WORDS: tuple[tuple[EarsChange, EarsChange], ...] = (
    ("muted", "unmuted"),
    ("paused", "resumed"),
    ("talk_started", "talk_ended"),
)
