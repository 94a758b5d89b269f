"""Listens to a session's events and keeps its turns, from a thread of its own."""

from __future__ import annotations

import io
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from assistant.audio.tap import Memory
from assistant.background import Background
from assistant.errors import UserError
from assistant.events import (
    ErrorRaised,
    Event,
    Listening,
    Responded,
    Stopped,
    TokenGenerated,
    TurnStarted,
    WindowClosed,
    WindowDropped,
)
from assistant.history.records import KeptSession, KeptTurn, KeptWindow
from assistant.history.store import DAY_S, HistoryStore, history_path, wipe
from assistant.profile import Profile
from assistant.records import SAMPLE_RATE

REMEMBERED_WINDOWS = 64  # a turn may come this late after its window, or ask about it once more
LONGEST_WINDOW_S = 40.0
CHECK_EVERY_S = 600.0
Emit = Callable[[Event], None]


@dataclass
class _Heard:
    """A window that was closed, and its sound until that is stored."""

    info: KeptWindow
    audio: np.ndarray | None


@dataclass
class _Running:
    """A turn that has begun."""

    started: TurnStarted
    pieces: list[str] = field(default_factory=list)


class HistoryWriter:
    """Stands between a session and its front end: passes every event on at once, then remembers what it says.

        with HistoryWriter(profile, emit) as keep:
            Session(source, Tap(detector, keep.hear), turns, keep).run()

    A full disk or a damaged file is an `ErrorRaised` with source `history`; the session goes on.

    Args:
        emit: the front end's; also told of errors, from the writer's thread.
    """

    def __init__(self, profile: Profile, emit: Emit) -> None:
        self._settings, self._emit = profile.history, emit
        self._session = KeptSession(time.time(), profile.name, profile.core.model, "")
        self._lock = threading.Lock()  # the ears and the answers come from two threads
        self._memory = Memory(LONGEST_WINDOW_S)
        self._windows: dict[int, _Heard] = {}
        self._running: dict[int, _Running] = {}
        # The files and sessions that have turns of a window; windows of which nothing is to be kept any more.
        self._kept_in: defaultdict[int, set[tuple[Path, str]]] = defaultdict(set)
        self._forgotten: set[int] = set()
        self._store: HistoryStore | None = None
        self._complained = ""
        self._expire_at = 0.0
        self._worker = Background("history", self._failed, self._expire, CHECK_EVERY_S)

    @property
    def keeps(self) -> bool:
        """Whether the profile keeps anything at all."""
        return self._settings.keep_text or self._settings.keep_audio

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Pass an event on, and keep what it says of a turn."""
        self._emit(event)
        take = _TAKERS.get(type(event))
        if take is not None:
            with self._lock:
                take(self, event)

    def use(self, profile: Profile) -> None:
        """Go on under another profile, and into its file."""
        with self._lock:
            self._settings = profile.history
            self._session = KeptSession(time.time(), profile.name, profile.core.model, self._session.device)
            self._expire_at = 0.0

    def hear(self, frame: np.ndarray) -> None:
        """Remember a frame, (480,) float32, if the profile keeps audio."""
        if self._settings.keep_audio:
            self._memory.hear(frame)

    def wipe(self, done: Callable[[int], None] = lambda _count: None) -> None:
        """Forget everything, for a screen's key: what is stored, and what waits to be. Returns at once.

        Args:
            done: told the number of forgotten turns, from the writer's thread.
        """
        with self._lock:
            self._forgotten.update(self._windows, self._running)
            self._windows.clear()
            self._running.clear()
        self._worker.do(lambda: done(wipe(self._settings)))

    def forget(self, window: int) -> None:
        """Forget a window of this run and its turns, for a screen's key. Returns at once."""
        with self._lock:
            self._forgotten.add(window)
            self._windows.pop(window, None)
            self._running.pop(window, None)
            kept_in = self._kept_in.pop(window, set())
        for path, session in kept_in:
            self._worker.do(partial(self._forget, path, window, session))

    def close(self) -> None:
        """Store what waits and close the file."""
        self._worker.do(self._close)
        if not self._worker.close():
            self._failed(UserError("history: the disk is too slow, the last turns may be lost"))

    def _on_listening(self, event: Listening) -> None:
        session = replace(self._session, profile=event.profile, model=event.model, device=event.source)
        if self._session.device and session != self._session:  # the profile or the device was changed under way
            session = KeptSession(time.time(), event.profile, event.model, event.source)
        self._session = session

    def _on_window(self, event: WindowClosed) -> None:
        audio = self._memory.cut(event.start_s, event.duration_s) if self._settings.keep_audio else None
        closed_at = time.time() - (time.monotonic() - event.t)
        info = KeptWindow(event.window, closed_at, event.start_s, event.duration_s, event.reason, event.level_dbfs)
        self._windows[event.window] = _Heard(info, audio)
        while len(self._windows) > REMEMBERED_WINDOWS:
            del self._windows[next(iter(self._windows))]

    def _on_dropped(self, event: WindowDropped) -> None:
        self._windows.pop(event.window, None)

    def _on_started(self, event: TurnStarted) -> None:
        if event.window not in self._forgotten:
            self._running[event.window] = _Running(event)

    def _on_token(self, event: TokenGenerated) -> None:
        if running := self._running.get(event.window):
            running.pieces.append(event.text)

    def _on_responded(self, event: Responded) -> None:
        response = event.response
        running = self._running.pop(response.window_id, None)
        if running is None:
            return  # it was wiped while the answer was running
        kept = self._turn(running.started, response.text, response.end)
        self._keep(
            replace(
                kept,
                slots=response.slots if self._settings.keep_text else None,
                said=response.words or None if self._settings.keep_text else None,
                timings_ms={key: round(value, 1) for key, value in asdict(response.timings_ms).items()},
                seen_by=event.seen_by,
                left_machine=event.left_machine,
            )
        )

    def _on_error(self, event: ErrorRaised) -> None:
        if event.source == "turn":
            self._fail_running()

    def _on_stopped(self, _event: Stopped) -> None:
        self._fail_running()

    def _fail_running(self) -> None:
        """Turns are answered one after the other, so that what is still running is what failed."""
        for running in self._running.values():
            self._keep(self._turn(running.started, "".join(running.pieces).strip(), "failed"))
        self._running.clear()

    def _turn(self, started: TurnStarted, text: str, end: str) -> KeptTurn:
        heard = self._windows.get(started.window)
        info = heard.info if heard else KeptWindow(started.window, time.time(), 0.0, 0.0, "manual", 0.0)
        text_kept = self._settings.keep_text
        return KeptTurn(
            session=self._session,
            window=info,
            kind=started.kind,
            skill=started.skill,
            prompt=started.prompt if text_kept else None,
            answer=text if text_kept else None,
            slots=None,
            timings_ms={},
            end=end,
        )

    def _keep(self, turn: KeptTurn) -> None:
        heard = self._windows.get(turn.window.number)
        audio = heard.audio if heard else None
        if heard:
            heard.audio = None
        if self.keeps:
            path = history_path(self._settings)
            self._kept_in[turn.window.number].add((path, turn.session.uid))
            self._worker.do(partial(self._write, path, turn, audio))

    def _write(self, path: Path, turn: KeptTurn, audio: np.ndarray | None) -> None:
        """Runs in the writer's thread, as everything below does."""
        self._opened(path).add(turn, None if audio is None else flac(audio))
        self._complained = ""
        self._expire()

    def _forget(self, path: Path, window: int, session: str) -> None:
        self._opened(path).forget_window(window, session)

    def _opened(self, path: Path) -> HistoryStore:
        if self._store is None or self._store.path != path:
            self._close()
            self._store = HistoryStore(path)
        return self._store

    def _expire(self) -> None:
        """At the start and then once a day; looking makes no file."""
        path = history_path(self._settings)
        if time.monotonic() >= self._expire_at and path.exists():
            self._expire_at = time.monotonic() + DAY_S
            self._opened(path).expire(self._settings.days)

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _failed(self, error: Exception) -> None:
        """Once for each kind of trouble, not once for each turn; anything but a `UserError` is a bug and says so."""
        message = str(error) if isinstance(error, UserError) else f"history: {type(error).__name__}: {error}"
        if message != self._complained:
            self._complained = message
            self._emit(ErrorRaised(source="history", message=message))


_TAKERS: dict[type[Event], Callable[..., None]] = {
    Listening: HistoryWriter._on_listening,
    WindowClosed: HistoryWriter._on_window,
    WindowDropped: HistoryWriter._on_dropped,
    TurnStarted: HistoryWriter._on_started,
    TokenGenerated: HistoryWriter._on_token,
    Responded: HistoryWriter._on_responded,
    ErrorRaised: HistoryWriter._on_error,
    Stopped: HistoryWriter._on_stopped,
}


def flac(samples: np.ndarray) -> bytes:
    """(n,) float32 in [-1, 1) at 16 kHz as a FLAC file of 16 bit."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
