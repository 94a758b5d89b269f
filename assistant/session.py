"""The one loop: frames to windows to answers. The same for a microphone, a file and a batch of files."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from assistant.audio.segmenter import Segmenter
from assistant.audio.source import Source
from assistant.audio.vad import VoiceDetector
from assistant.errors import UserError
from assistant.events import (
    DeviceStateChanged,
    ErrorRaised,
    Event,
    FramesDropped,
    Listening,
    Responded,
    Stopped,
    WindowDropped,
)
from assistant.records import AudioWindow
from assistant.turns import Turns

Emit = Callable[[Event], None]
WAITING_WINDOWS = 4  # a live loop further behind than this drops the oldest window, and says so
DROP_REPORT_S = 1.0
TOO_FAR_BEHIND = "too many windows wait for an answer"


class Session:
    """A running loop: one thread listens, the calling thread answers.

    Args:
        emit: told every event, from either thread.
        heard: given every window that closed, with its sound.
        windows_before: how many windows were heard before this session, on another device; numbers go on from there.
    """

    def __init__(
        self,
        source: Source,
        detector: VoiceDetector,
        turns: Turns,
        emit: Emit,
        heard: Callable[[AudioWindow], None] = lambda _: None,
        windows_before: int = 0,
    ) -> None:
        self._source, self._turns, self._emit, self._heard = source, turns, emit, heard
        self._segmenter = Segmenter(turns.profile.hearing, detector, source.name, _count=windows_before)
        self._next_detector: VoiceDetector | None = None
        self.answering = threading.Lock()  # one turn at a time, whoever asks
        # A file waits for its answers; a microphone cannot.
        self._windows: queue.Queue[AudioWindow | None] = queue.Queue(WAITING_WINDOWS if source.live else 1)
        self._stop, self._flush = threading.Event(), threading.Event()
        self.muted, self.paused, self.talking = threading.Event(), threading.Event(), threading.Event()
        self.reason = "end of input"
        self._failure: UserError | None = None

    def stop(self, reason: str) -> None:
        """End the session soon, from any thread; the running answer is cancelled."""
        self.reason = reason
        self._stop.set()
        self._turns.cancel.set()

    def cut_now(self) -> None:
        """Close the open window at once (a key was pressed)."""
        self._flush.set()

    def toggle_talk(self) -> None:
        """Push to talk: silence ends no window until this is called again, which ends and answers it."""
        if self.talking.is_set():
            self.cut_now()  # first: the end is the person's, not that of a silence before it
            self.talking.clear()
        else:
            self.talking.set()

    def use(self, turns: Turns, detector: VoiceDetector) -> None:
        """Cut and answer by another profile from the next frame on; an answer that is running goes on."""
        turns.cancel = self._turns.cancel
        self._turns, self._next_detector = turns, detector

    def cancel(self) -> None:
        """Stop the running answer; listening goes on."""
        self._turns.cancel.set()

    def run(self) -> None:
        """Listen and answer until the source ends or `stop` is called.

        Raises:
            UserError: the source could not be opened or read.
        """
        ears = threading.Thread(target=self._listen, name="ears", daemon=True)
        ears.start()
        windows = answers = 0
        try:
            while (window := self._next_window(ears)) is not None:
                windows += 1
                answers += self._answer(window)
        finally:
            self._stop.set()
            ears.join(timeout=5.0)
            self._emit(Stopped(reason=self.reason, windows=windows, answers=answers))
        if self._failure is not None:
            raise self._failure

    def _next_window(self, ears: threading.Thread) -> AudioWindow | None:
        while not self._stop.is_set():
            try:
                return self._windows.get(timeout=0.1)
            except queue.Empty:
                if not ears.is_alive() and self._windows.empty():
                    return None
        return None

    def _answer(self, window: AudioWindow) -> bool:
        try:
            answered = False
            with self.answering:
                for event in self._turns.answer(window):
                    self._emit(event)
                    answered = isinstance(event, Responded) and event.response.end == "done"
                    if self._stop.is_set():
                        self._turns.cancel.set()
        except UserError as error:
            self._emit(ErrorRaised(source="turn", message=str(error)))
            return False
        return answered

    def _listen(self) -> None:
        """Runs in the ears' thread."""
        try:
            self._hear_frames()
        except UserError as error:
            self._failure = error
            self.reason = "failed"
        finally:
            self._hand_over(None)

    def _hear_frames(self) -> None:
        first, reported = True, 0.0
        for frame in self._source.frames(self._stop.is_set):
            if isinstance(frame, DeviceStateChanged):
                self._follow_device(frame)
                continue
            if first:
                first = False
                profile, model = self._turns.profile.name, self._turns.core.name
                self._emit(Listening(source=self._source.name, profile=profile, model=model))
            self._retune()
            if self._flush.is_set():
                self._flush.clear()
                self._take(self._segmenter.flush("manual"))
            if self.paused.is_set():
                continue
            if self.muted.is_set():
                frame = frame * 0.0  # noqa: PLW2901 - the gate goes on running on silence
            self._take(self._segmenter.feed(frame))
            if time.monotonic() - reported > DROP_REPORT_S:
                reported = time.monotonic()
                self._report_drops()
        self._take(self._segmenter.flush("manual" if self._stop.is_set() else self._source.end))

    def _follow_device(self, change: DeviceStateChanged) -> None:
        self._emit(change)
        if change.state != "active":
            self._take(self._segmenter.flush("device_lost"))

    def _retune(self) -> None:
        """Take over another profile's numbers, or those of push to talk; an open window goes on."""
        settings = self._turns.profile.hearing
        if self.talking.is_set():
            settings = settings.model_copy(update={"end_silence_s": settings.max_window_s})
        if self._next_detector or settings != self._segmenter.settings:
            detector, self._next_detector = self._next_detector or self._segmenter.detector, None
            self._segmenter = replace(self._segmenter, settings=settings, detector=detector)

    def _report_drops(self) -> None:
        lost = self._source.dropped()
        if lost:
            self._emit(FramesDropped(count=lost))

    def _take(self, items: Iterator[Any]) -> None:
        for item in items:
            if isinstance(item, AudioWindow):
                self._heard(item)
                self._hand_over(item)
            else:
                self._emit(item)

    def _hand_over(self, window: AudioWindow | None) -> None:
        while not self._stop.is_set():
            try:
                return self._windows.put(window, timeout=0.0 if self._source.live else 0.1)
            except queue.Full:
                if self._source.live:
                    self._drop_oldest()
        return None

    def _drop_oldest(self) -> None:
        try:
            oldest = self._windows.get_nowait()
        except queue.Empty:
            return
        if oldest is not None:
            self._emit(WindowDropped(window=oldest.id, reason=TOO_FAR_BEHIND))
