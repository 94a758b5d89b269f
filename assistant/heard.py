"""The windows of the last minutes, in memory alone."""

from __future__ import annotations

from assistant.records import AudioWindow

KEPT_SECONDS = 600.0  # 38 MB
KEPT_WINDOWS = 50


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
