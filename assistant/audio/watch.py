"""When to give a stream up, and when to try again: arithmetic over clocks, tested without a device."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Two clocks and a way to wait. `awake` stands still while the machine sleeps; `real` does not."""

    def awake(self) -> float: ...

    def real(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own."""

    def awake(self) -> float:
        return time.monotonic()

    def real(self) -> float:
        # The wall clock is the fallback; when somebody sets it, the stream is opened anew, which does no harm.
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        return time.time() if boot is None else time.clock_gettime(boot)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Limits:
    """Seconds, except `slow_share`: less than this share of real time over `rate_window_s` is a broken stream."""

    first_block_s: float = 8.0
    stall_s: float = 4.0
    slow_share: float = 0.5
    rate_window_s: float = 10.0
    slept_s: float = 3.0
    retry_first_s: float = 0.25
    retry_most_s: float = 5.0
    give_up_s: float = 15.0  # after this the state is `unavailable`, and looking goes on quietly


class Watchdog:
    """Judges an open stream by what its callback delivers: a lost device often gives no error at all."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock, self._limits = clock, limits
        self._since = self._last = clock.awake()
        self._offset = clock.real() - clock.awake()
        self._recent: deque[tuple[float, float]] = deque()
        self._delivered_s = 0.0

    def heard(self, seconds: float) -> None:
        """So much sound came."""
        now = self._clock.awake()
        if now - self._last > self._limits.stall_s:  # nobody read meanwhile, so nothing is known of the rate
            self._since, self._delivered_s = now, 0.0
            self._recent.clear()
        self._last = now
        self._recent.append((self._last, seconds))
        self._delivered_s += seconds
        while self._recent[0][0] < self._last - self._limits.rate_window_s:
            self._delivered_s -= self._recent.popleft()[1]

    def complaint(self) -> str | None:
        """Why the stream must be opened anew, or None."""
        now = self._clock.awake()
        slept = self._clock.real() - now - self._offset
        if slept > self._limits.slept_s:
            return f"the machine slept for {slept:.0f} s"
        if now - self._last > self._limits.stall_s:
            return f"it gave no sound for {now - self._last:.0f} s"
        share = self._delivered_s / self._limits.rate_window_s
        if now - self._since > self._limits.rate_window_s and share < self._limits.slow_share:
            return f"it gives only {share:.0%} of the sound that it should"
        return None


class Backoff:
    """Waits that double up to a limit."""

    def __init__(self, limits: Limits) -> None:
        self._next, self._most = limits.retry_first_s, limits.retry_most_s

    def next(self) -> float:
        """Seconds to wait before the next try."""
        wait, self._next = self._next, min(2 * self._next, self._most)
        return wait
