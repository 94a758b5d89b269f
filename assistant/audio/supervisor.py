"""Keeps a live input going: watches it, opens it anew, says what happened; the stream's time goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Protocol

import numpy as np

from assistant.audio.conversion import Converter
from assistant.audio.watch import Backoff, Clock, Limits, SystemClock, Watchdog
from assistant.errors import UserError
from assistant.events import DeviceStateChanged
from assistant.records import FRAME_S, FRAME_SAMPLES, DeviceState

TICK_S = 0.1
LONGEST_FILL_S = 5.0  # a longer hole means that the process itself did not run; it is not filled

Heard = np.ndarray | DeviceStateChanged
Stopped = Callable[[], bool]


class Feed(Protocol):
    """An open input stream."""

    rate_hz: int

    @property
    def label(self) -> str:
        """What the device is called now."""
        ...

    def read(self, timeout_s: float) -> np.ndarray | None:
        """The next block, (n, channels) float32 at `rate_hz`, or None if none came in time."""
        ...

    def alive(self) -> bool:
        """False once the library itself says that the stream has ended."""
        ...

    def moved_to(self) -> str | None:
        """The new label, if the system has moved the stream to another device since the last call."""
        ...

    def close(self) -> None: ...


class Supervisor:
    """Frames of an input that may go and come back.

    Args:
        connect: opens the input as it is now; tries anew each time.
        name: what the input is called while it is not open.
        patient: wait for an input that is not there at the start, instead of failing.

    Raises:
        UserError: from `frames`, if the input cannot be opened at the start and `patient` is false.
    """

    def __init__(
        self,
        connect: Callable[[], Feed],
        name: str,
        patient: bool = False,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._connect, self._name, self._patient = connect, name, patient
        self._clock, self._limits = clock or SystemClock(), limits or Limits()
        self._state: DeviceState | None = None
        self._heard_until: float | None = None  # on the awake clock; None before the first sound

    def frames(self, stopped: Stopped) -> Iterator[Heard]:
        """Frames of (480,) float32 in real time, silent while the input is away, and each change of its state."""
        while not stopped():
            feed = yield from self._connected(stopped)
            if feed is None:
                return
            try:
                self._name = feed.label
                yield self._change("active", "it is ready" if self._state is None else "it is back")
                reason = yield from self._listen(feed, stopped)
            finally:
                feed.close()
            if not stopped():
                yield self._change("reconnecting", reason)

    def _change(self, state: DeviceState, reason: str) -> DeviceStateChanged:
        self._state = state
        return DeviceStateChanged(state=state, device=self._name, reason=reason)

    def _listen(self, feed: Feed, stopped: Stopped) -> Generator[Heard, None, str]:
        """Hear until the stream must be given up; returns why."""
        watchdog, converter = Watchdog(self._clock, self._limits), Converter(feed.rate_hz)
        while not stopped():
            block = feed.read(TICK_S)
            if block is not None:
                watchdog.heard(len(block) / feed.rate_hz)
                self._heard_until = self._clock.awake()
                yield from converter.push(block)
            elif not feed.alive():
                return "it was unplugged or stopped"
            if complaint := watchdog.complaint():
                return complaint
            if label := feed.moved_to():
                self._name = label
                yield self._change("active", "the default device is another one now")
        return "stopped"

    def _connected(self, stopped: Stopped) -> Generator[Heard, None, Feed | None]:
        """Try until the input gives sound, with growing pauses; None if stopped."""
        began, backoff = self._clock.awake(), Backoff(self._limits)
        while not stopped():
            try:
                return (yield from self._opened(stopped))
            except UserError as error:
                if stopped():
                    break
                yield from self._despair(began, str(error))
            yield from self._pause(backoff.next(), stopped)
        return None

    def _despair(self, began: float, why: str) -> Iterator[Heard]:
        """Say so once, when it is missing at the start or has been away for long."""
        if self._state is None:
            if not self._patient:
                raise UserError(why)
            yield self._change("unavailable", why)
        elif self._state == "reconnecting" and self._clock.awake() - began >= self._limits.give_up_s:
            yield self._change("unavailable", why)

    def _opened(self, stopped: Stopped) -> Generator[Heard, None, Feed]:
        """A feed whose first block has come: opening alone proves nothing."""
        feed = self._connect()
        deadline = self._clock.awake() + self._limits.first_block_s
        try:
            while feed.alive() and self._clock.awake() < deadline and not stopped():
                if feed.read(TICK_S) is not None:
                    return feed
                yield from self._silence()
        except BaseException:
            feed.close()
            raise
        feed.close()
        raise UserError(f"{feed.label} opens but gives no sound")

    def _pause(self, seconds: float, stopped: Stopped) -> Iterator[Heard]:
        until = self._clock.awake() + seconds
        while (left := until - self._clock.awake()) > 0 and not stopped():
            self._clock.sleep(min(TICK_S, left))
            yield from self._silence()

    def _silence(self) -> Iterator[np.ndarray]:
        """So much silence that the stream's time keeps up with the clock."""
        if self._heard_until is None:
            return
        now = self._clock.awake()
        self._heard_until = max(self._heard_until, now - LONGEST_FILL_S)
        while self._heard_until + FRAME_S <= now:
            self._heard_until += FRAME_S
            yield np.zeros(FRAME_SAMPLES, np.float32)
