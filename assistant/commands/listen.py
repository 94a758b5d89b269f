"""`assistant listen`: the live loop without a screen."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from assistant.audio.vad import make_detector
from assistant.commands.keeping import keeping
from assistant.commands.output import complain, print_json
from assistant.commands.setup import make_source, make_turns
from assistant.events import (
    DeviceStateChanged,
    ErrorRaised,
    Event,
    LevelMeasured,
    Listening,
    Responded,
    TokenGenerated,
    WindowClosed,
)
from assistant.profile import load
from assistant.recording import unhurried
from assistant.session import Session


def print_event(event: Event) -> None:
    """What a person wants to read of an event."""
    if isinstance(event, Listening):
        print(f"listening to {event.source} ({event.model}, profile {event.profile}); Ctrl-C stops", file=sys.stderr)
    elif isinstance(event, WindowClosed):
        print(f"\n[{event.start_s:.1f} s, {event.kind}, {event.duration_s:.1f} s] ", end="", flush=True)
    elif isinstance(event, TokenGenerated):
        print(event.text, end="", flush=True)
    elif isinstance(event, Responded):
        slots = f"\n{dict(event.response.slots)}" if event.response.slots is not None else ""
        print(slots, flush=True)
    elif isinstance(event, DeviceStateChanged):
        complain(f"microphone {event.state}: {event.device} ({event.reason})")
    elif isinstance(event, ErrorRaised):
        complain(event.message)


def run(
    input_: str | None, profile: str, seconds: float | None, as_json: bool, safe: bool, record: Path | None = None
) -> None:
    chosen = load(profile)
    chosen = chosen.model_copy(update={"safe": safe or chosen.safe})
    if record is not None:
        chosen = unhurried(chosen)
    lock = threading.Lock()

    def show(event: Event) -> None:
        if isinstance(event, LevelMeasured):
            return
        with lock:
            print_json(event.as_dict()) if as_json else print_event(event)

    source = make_source(input_, chosen)
    with keeping(chosen, source, show, record) as kept:
        turns = make_turns(chosen, lambda name, message: kept.emit(ErrorRaised(source=name, message=message)))
        kept.attach(turns)
        detector = kept.tap(make_detector(chosen.hearing))
        session = Session(kept.source, detector, turns, kept.emit)
        _listen(session, seconds)
    if session.reason == "interrupted":
        complain("interrupted")
        sys.exit(130)


def _listen(session: Session, seconds: float | None) -> None:
    """Until the input ends, the time is up or a signal comes."""

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        session.stop("interrupted")

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    timer = threading.Timer(seconds, session.stop, ("time is up",)) if seconds else None
    if timer:
        timer.daemon = True
        timer.start()
    session.run()
