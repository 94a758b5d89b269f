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
    EarsChanged,
    ErrorRaised,
    Event,
    LevelMeasured,
    Listening,
    Responded,
    TokenGenerated,
    WindowClosed,
)
from assistant.profile import Profile, load
from assistant.recording import unhurried
from assistant.session import Session


def print_event(event: Event) -> None:
    """What a person wants to read of an event."""
    if isinstance(event, Listening):
        print(f"listening to {event.source} ({event.model}, profile {event.profile}); Ctrl-C stops", file=sys.stderr)
    elif isinstance(event, WindowClosed):
        goes_on = ", goes on" if event.reason == "steady" else ""
        print(f"\n[{event.start_s:.1f} s, {event.kind}, {event.duration_s:.1f} s{goes_on}] ", end="", flush=True)
    elif isinstance(event, TokenGenerated):
        print(event.text, end="", flush=True)
    elif isinstance(event, Responded):
        slots = f"\n{dict(event.response.slots)}" if event.response.slots is not None else ""
        print(slots, flush=True)
    elif isinstance(event, DeviceStateChanged):
        complain(f"microphone {event.state}: {event.device} ({event.reason})")
    elif isinstance(event, EarsChanged):
        complain(event.change.replace("_", " "))
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
    if not source.live:
        chosen = openly(chosen)
    with keeping(chosen, source, show, record) as kept:
        turns = make_turns(chosen, lambda name, message: kept.emit(ErrorRaised(source=name, message=message)))
        kept.attach(turns)
        detector = kept.tap(make_detector(chosen.hearing))
        session = Session(kept.source, detector, turns, kept.emit)
        try:
            _listen(session, seconds, by_key=input_ != "-")
        finally:
            turns.close(kept.emit)
    if session.reason == "interrupted":
        complain("interrupted")
        sys.exit(130)


def openly(profile: Profile) -> Profile:
    """The profile for a file or a pipe, in which nobody presses a key to talk."""
    if profile.hearing.mode == "open":
        return profile
    complain("nobody presses to talk in a file: all of it is heard (hearing.mode is for the microphone)")
    return profile.model_copy(update={"hearing": profile.hearing.model_copy(update={"mode": "open"})})


def _listen(session: Session, seconds: float | None, by_key: bool) -> None:
    """Until the input ends, the time is up or a signal comes; Enter and SIGUSR1 are the talk key."""

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        session.stop("interrupted")

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    if hasattr(signal, "SIGUSR1"):  # for a hotkey of the desktop
        signal.signal(signal.SIGUSR1, lambda _signal, _frame: session.toggle_talk())
    if by_key and sys.stdin is not None and sys.stdin.isatty():
        threading.Thread(target=_toggle_at_enter, args=(session,), name="keys", daemon=True).start()
    timer = threading.Timer(seconds, session.stop, ("time is up",)) if seconds else None
    if timer:
        timer.daemon = True
        timer.start()
    session.run()


def _toggle_at_enter(session: Session) -> None:
    while sys.stdin.readline():
        session.toggle_talk()
