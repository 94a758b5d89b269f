"""`assistant listen`: the live loop without a screen."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from assistant.audio.vad import make_detector
from assistant.commands.keeping import keeping
from assistant.commands.output import complain, print_json, write_to_nobody
from assistant.commands.setup import make_source, make_turns
from assistant.events import (
    ActionTaken,
    DeviceStateChanged,
    EarsChanged,
    ErrorRaised,
    Event,
    FramesDropped,
    LevelMeasured,
    Listening,
    PanelsChanged,
    PluginDisabled,
    PluginPrinted,
    PluginReloaded,
    Responded,
    TokenGenerated,
    Transcribed,
    TurnStarted,
    WindowClosed,
    WindowDropped,
)
from assistant.lines import action_lines, one_line, panel_lines, record_lines
from assistant.profile import Profile, load
from assistant.recording import unhurried
from assistant.records import BROKEN_OFF, Response
from assistant.session import GOES_ON, Session


class Printer:
    """Writes what a person wants to read of the events: answers on stdout, everything around them on stderr.

    Attributes:
        waiting: windows of which nothing was printed yet. A file is read ahead of its answers, so that a window's line
            begins with its answer and not where it ended.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, WindowClosed] = {}
        self._follows = sys.stdout.isatty()  # somebody reads along; a pipe gets each answer as it is in the end
        self._written = ""
        self._shown: object = None  # nobody needs the same panels again after every answer

    def __call__(self, event: Event) -> None:
        if isinstance(event, WindowClosed):
            self.waiting[event.window] = event
        elif isinstance(event, (TurnStarted, WindowDropped)):
            self._begin(event)
        if isinstance(event, Transcribed):
            print(f'"{event.text}" -> ', end="", flush=True)
        elif isinstance(event, TokenGenerated):
            self._token(event.text)
        elif isinstance(event, Responded):
            self._answer(event.response)
        elif isinstance(event, ActionTaken):
            print("\n".join(f"  {line}" for line in action_lines(event)), flush=True)
        elif isinstance(event, PanelsChanged):
            self._show(event)
        elif isinstance(event, EarsChanged):
            complain(event.change.replace("_", " "))
        elif said := aside(event):
            print(said, file=sys.stderr) if isinstance(event, Listening) else complain(said)

    def _begin(self, event: TurnStarted | WindowDropped) -> None:
        self._written = ""
        if event.window in self.waiting:
            kind = event.kind if isinstance(event, TurnStarted) else None  # as the model heard it, not the gate
            print(_heading(self.waiting.pop(event.window), kind), end="", flush=True)

    def _token(self, text: str) -> None:
        if self._follows:
            print(text, end="", flush=True)
            self._written += text

    def _answer(self, response: Response) -> None:
        """The rest of an answer's line, and the answer once more if a plugin made something else of it."""
        if not self._follows:
            print(response.text.strip(), end="")
        elif response.text.strip() != self._written.strip():
            print(f"\n  {response.text}" if self._written else response.text, end="")
        if broken := BROKEN_OFF.get(response.end):
            print(f" {broken}", end="")
        self._written = ""
        slots = response.slots
        print("".join(f"\n  {line}" for line in record_lines(slots)) if slots is not None else "", flush=True)

    def _show(self, event: PanelsChanged) -> None:
        if event.panels == self._shown:
            return
        self._shown = event.panels
        lines = [line for _, title, rows in event.panels for line in panel_lines(title, rows)]
        print("\n".join(f"  | {line}" for line in lines), flush=True)


def _heading(window: WindowClosed, kind: str | None) -> str:
    goes_on = ", goes on" if window.reason in GOES_ON else ""
    return f"\n[{window.start_s:.1f} s, {kind or window.kind}, {window.duration_s:.1f} s{goes_on}] "


ASIDES: dict[type[Event], str] = {
    Listening: "listening to {0.source} ({0.model}, profile {0.profile}); Ctrl-C stops",
    DeviceStateChanged: "microphone {0.state}: {0.device} ({0.reason})",
    ErrorRaised: "{0.message}",
    PluginDisabled: "plugin {0.plugin} is off for this session: {0.reason}",
    PluginReloaded: "plugin {0.plugin} was read again: its file was saved",
    PluginPrinted: "plugin {0.plugin} printed: {0.text}",
    WindowDropped: "window {0.window} is not answered: {0.reason}",
    FramesDropped: "{0.count} frames of sound were lost: the machine is too busy",
}


def aside(event: Event) -> str | None:
    """What is worth a line beside the answers."""
    words = ASIDES.get(type(event))
    return one_line(words.format(event)) if words else None


def run(
    input_: str | None, profile: str, seconds: float | None, as_json: bool, safe: bool, record: Path | None = None
) -> None:
    chosen = load(profile)
    chosen = chosen.model_copy(update={"safe": safe or chosen.safe})
    if record is not None:
        chosen = unhurried(chosen)
    lock = threading.Lock()
    in_words = Printer()
    reader_left = threading.Event()

    def show(event: Event) -> None:
        if isinstance(event, LevelMeasured) or reader_left.is_set():
            return
        try:
            with lock:
                print_json(event.as_dict()) if as_json else in_words(event)
        except BrokenPipeError:  # such as `| head -1`, in one of the session's threads
            reader_left.set()
            write_to_nobody()
            os.kill(os.getpid(), signal.SIGTERM)

    source = make_source(input_, chosen)
    if not source.live:
        chosen = openly(chosen)
    with keeping(chosen, source, show, record) as kept:
        if not as_json:
            print(f"loading {chosen.core.model}; nothing is heard yet", file=sys.stderr)
        turns = make_turns(
            chosen, lambda name, message: kept.emit(ErrorRaised(source=name, message=f"plugin {name} {message}"))
        )
        kept.attach(turns)
        detector = kept.tap(make_detector(chosen.hearing))
        session = Session(kept.source, detector, turns, kept.emit)
        try:
            _listen(session, seconds, by_key=input_ != "-")
        finally:
            turns.close(kept.emit)
    if reader_left.is_set():
        sys.exit(1)
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
