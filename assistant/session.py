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
from assistant.early import Early
from assistant.ears import Ears
from assistant.errors import UserError
from assistant.events import (
    DeviceStateChanged,
    EarsChanged,
    ErrorRaised,
    Event,
    FramesDropped,
    LevelMeasured,
    Listening,
    Responded,
    Stopped,
    TokenGenerated,
    WindowDropped,
    WindowOpened,
    WindowPaused,
    WindowResumed,
)
from assistant.records import AudioWindow, WindowEnd
from assistant.turns import Turns
from assistant.voice import Voice

Emit = Callable[[Event], None]
WAITING_WINDOWS = 4  # a live loop further behind than this drops the oldest window, and says so
DROP_REPORT_S = 1.0
# A window that ended so was cut in the middle: whoever is heard next is no new talker, who waits for no answer.
GOES_ON: tuple[WindowEnd, ...] = ("max_window", "steady")
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
        self._voice, self._closed = Voice(), 0
        self._early: Early | None = None
        self._running: AudioWindow | Early | None = None
        # A file waits for its answers; a microphone cannot.
        self._windows: queue.Queue[AudioWindow | Early | None] = queue.Queue(WAITING_WINDOWS if source.live else 1)
        self._stop, self._flush = threading.Event(), threading.Event()
        self._ears = Ears()
        self.muted, self.paused, self.talking = self._ears.muted, self._ears.paused, self._ears.talking
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
        """Push to talk: a window is open from now on, until this is called again, which ends and answers it."""
        self.talking.clear() if self.talking.is_set() else self.talking.set()

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
        answers = 0
        try:
            while (item := self._next_window(ears)) is not None:
                answers += self._answer(item)
        finally:
            self._stop.set()
            ears.join(timeout=5.0)
            self._emit(Stopped(reason=self.reason, windows=self._closed, answers=answers))
        if self._failure is not None:
            raise self._failure

    def _next_window(self, ears: threading.Thread) -> AudioWindow | Early | None:
        while not self._stop.is_set():
            try:
                return self._windows.get(timeout=0.1)
            except queue.Empty:
                if not ears.is_alive() and self._windows.empty():
                    return None
        return None

    def _answer(self, item: AudioWindow | Early) -> bool:
        """Answer a window, or begin to; True if the answer was completed."""
        if isinstance(item, Early) and item.decided:  # while it waited for its turn
            return self._answer(item.final) if item.final is not None else False
        with self.answering:
            self._running = item
            try:
                return self._early_turn(item) if isinstance(item, Early) else self._turn(self._turns.answer(item))
            finally:
                self._running = None

    def _turn(self, events: Iterator[Event]) -> bool:
        answered = False
        try:
            for event in events:
                self._say(event)
                # What follows an answer (actions, panels) does not make it less of one.
                answered |= isinstance(event, Responded) and event.response.end == "done"
                if self._stop.is_set():
                    self._turns.cancel.set()
        except UserError as error:
            self._emit(ErrorRaised(source="turn", message=str(error)))
            self._turns.host.error("turn", str(error))
            return False
        return answered

    def _early_turn(self, early: Early) -> bool:
        """Hold the events back until the window is sure to be over; drop them if it is not."""
        held: list[Event] = []
        trouble: UserError | None = None
        events = self._turns.answer(early.window, settled=lambda: early.decision(self._stop.is_set))
        try:
            for event in events:
                held.append(event)
                if early.decided:
                    break
        except UserError as error:
            trouble = error
        if early.decision(self._stop.is_set) is None:
            return False

        def all_of_it() -> Iterator[Event]:
            yield from held
            if trouble is not None:
                raise trouble
            yield from events

        return self._turn(all_of_it())

    def _say(self, event: Event) -> None:
        """Pass on an event of a turn; the first token tells how long the answer was waited for."""
        if isinstance(event, TokenGenerated):
            self._voice.answered(event.window)
        elif isinstance(event, Responded) and self._source.live:
            response = event.response
            timings = replace(response.timings_ms, end_delay=self._voice.delay_ms(response.window_id))
            event = replace(event, response=replace(response, timings_ms=timings))
        self._emit(event)

    def _listen(self) -> None:
        """Runs in the ears' thread."""
        try:
            self._hear_frames()
        except UserError as error:
            self._failure = error
            self.reason = "failed"
            self._turns.host.error("microphone" if self._source.live else "input", str(error))
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
            self._follow_person()
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
            self._turns.host.error("microphone", f"{change.state}: {change.device}: {change.reason}")
            self._take(self._segmenter.flush("device_lost"))

    def _follow_person(self) -> None:
        """What was pressed since the last frame; it holds from this one on."""
        for change in self._ears.changes():
            self._emit(EarsChanged(change=change))
            if change in ("paused", "talk_ended"):
                self._flush.set()
        if self._flush.is_set():
            self._flush.clear()
            self._take(self._segmenter.flush("manual"))
        if self.talking.is_set() and not self.paused.is_set() and not self._segmenter.held:
            self._take(self._segmenter.hold())

    def _retune(self) -> None:
        """Take over another profile's numbers; an open window goes on."""
        settings = self._turns.profile.hearing
        same = settings is self._segmenter.settings or settings == self._segmenter.settings
        if self._next_detector or not same:
            detector, self._next_detector = self._next_detector or self._segmenter.detector, None
            self._segmenter = replace(self._segmenter, settings=settings, detector=detector)

    def _report_drops(self) -> None:
        lost = self._source.dropped()
        if lost:
            self._emit(FramesDropped(count=lost))

    def _take(self, items: Iterator[Any]) -> None:
        for item in items:
            if isinstance(item, AudioWindow):
                self._close(item)
                continue
            self._emit(item)
            if isinstance(item, LevelMeasured):
                self._voice.hear(item)
                self._barge_in()
            elif isinstance(item, WindowOpened):
                self._voice.open(item.window)
            elif isinstance(item, WindowPaused):
                self._begin_early()
            elif isinstance(item, (WindowResumed, WindowDropped)) and self._early is not None:
                self._discard_early(self._early)

    def _close(self, window: AudioWindow) -> None:
        self._heard(window)
        self._closed += 1
        self._voice.close(window)
        early, self._early = self._early, None
        if early is not None and early.window.id == window.id:
            early.confirm(window)
        else:
            self._hand_over(window)

    def _begin_early(self) -> None:
        """Begin to answer at a pause, if nobody else is being answered. A file has no reason to hurry."""
        if not self._source.live or self.answering.locked() or not self._windows.empty():
            return
        window = self._segmenter.so_far()
        if window is not None:
            self._early = Early(window)
            self._hand_over(self._early)

    def _discard_early(self, early: Early) -> None:
        self._early = None
        early.discard()
        if self._running is early:
            self._turns.cancel.set()

    def _barge_in(self) -> None:
        """Somebody who goes on talking is not waiting for the running answer any more; a cough says nothing."""
        limit = self._turns.profile.hearing.barge_in_s
        running = self._running
        if not self._source.live or not limit or running is None or self._voice.voiced_s < limit:
            return
        answered = (running.final or running.window) if isinstance(running, Early) else running
        if answered.end in GOES_ON:
            return
        if answered.id != self._voice.window and not self._turns.cancel.is_set():
            self._turns.cancelled_as = "superseded"
            self._turns.cancel.set()

    def _hand_over(self, window: AudioWindow | Early | None) -> None:
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
        if isinstance(oldest, Early):
            oldest = oldest.final
        if oldest is not None:
            self._emit(WindowDropped(window=oldest.id, reason=TOO_FAR_BEHIND))
