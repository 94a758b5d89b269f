"""Ties history and recording to a session: one call for every front end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from assistant.audio.source import Source
from assistant.audio.tap import Tap
from assistant.audio.vad import VoiceDetector
from assistant.events import Event
from assistant.history import HistoryWriter
from assistant.profile import Profile
from assistant.recording import Recording
from assistant.turns import Turns

Emit = Callable[[Event], None]


class Keeping:
    """What a session gets instead of its own source, detector and `emit`.

    Attributes:
        source: hand it to the session.
        emit: hand it to the session, and to whoever reports trouble.
        history: `forget`, `wipe` and `use` are for the keys of a screen.
    """

    def __init__(self, source: Source, history: HistoryWriter, recording: Recording | None) -> None:
        self.history, self._recording = history, recording
        self.source = recording.source(source) if recording else source
        self.emit: Emit = recording or history

    def tap(self, detector: VoiceDetector) -> VoiceDetector:
        """The same detector; what it hears is kept if the profile says so, and recorded if it was asked for."""
        return Tap(detector, self.history.hear, *([self._recording.hear] if self._recording else []))

    def attach(self, turns: Turns) -> None:
        """Record the model's and the plugins' calls, if a recording was asked for."""
        if self._recording:
            turns.core = self._recording.core(turns.core)
            turns.host.calls.recorder = self._recording.hook


@contextmanager
def keeping(profile: Profile, source: Source, emit: Emit, record: Path | None = None) -> Iterator[Keeping]:
    """Keep the session's history as the profile says, and record it into the folder `record` if there is one.

        with keeping(profile, source, emit) as kept:
            kept.attach(turns)
            Session(kept.source, kept.tap(detector), turns, kept.emit).run()

    Raises:
        UserError: the folder cannot be recorded into.
    """
    with ExitStack() as stack:
        history = stack.enter_context(HistoryWriter(profile, emit))
        recording = stack.enter_context(Recording(record, profile, history)) if record else None
        yield Keeping(source, history, recording)
