"""The live screen: a Textual front over the same loop that runs headless."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Footer, Static

from assistant.audio.source import Source
from assistant.audio.vad import VoiceDetector, make_detector
from assistant.commands.setup import make_turns
from assistant.errors import UserError
from assistant.events import (
    DeviceStateChanged,
    ErrorRaised,
    Event,
    FramesDropped,
    LevelMeasured,
    Listening,
    Responded,
    Stopped,
    TokenGenerated,
    TurnStarted,
    WindowClosed,
    WindowDropped,
    WindowOpened,
)
from assistant.profile import Profile
from assistant.session import Session
from assistant.tui.widgets import LevelMeter, StatusLine, TurnView
from assistant.turns import Turns

METER_EVERY = 3  # frames of 30 ms: about eleven updates a second
MakeTurns = Callable[[Profile, Callable[[str, str], None]], Turns]


class Happened(Message):
    """The loop, in another thread, emitted an event."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class AssistantApp(App[None]):
    """Listens from start to end; every key has its place in the footer.

    Args:
        make_turns: loads the core and the plugins, in the worker thread; tests give a fake core.
    """

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "assistant"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "cut", "Answer now"),
        Binding("escape", "cancel", "Cancel answer"),
        Binding("m", "mute", "Mute"),
        Binding("s", "next_skill", "Skill for speech"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self,
        profile: Profile,
        source: Source,
        safe: bool = False,
        make_turns: MakeTurns | None = None,
        detector: VoiceDetector | None = None,
    ) -> None:
        super().__init__()
        self.profile, self._source = profile, source
        self._make_turns: MakeTurns = make_turns or (lambda p, report: _load_turns(p, report, safe))
        self._detector = detector or make_detector(profile.hearing)
        self._session: Session | None = None
        self._turns: Turns | None = None
        self._frames = 0
        self._quitting = threading.Event()
        self.failure: str | None = None

    def compose(self) -> ComposeResult:
        yield StatusLine(id="status")
        yield LevelMeter(id="meter")
        with VerticalScroll(id="conversation"):
            yield Static("Loading the model...", id="hint")
        yield Footer()

    def on_mount(self) -> None:
        self._status(profile=self.profile.name, model=self.profile.core.model, source=self._source.name)
        self._run_loop()

    def on_unmount(self) -> None:
        self._quitting.set()
        if self._session:
            self._session.stop("quit")

    @work(thread=True, exclusive=True)
    def _run_loop(self) -> None:
        try:
            self._turns = self._make_turns(self.profile, self._report)
            self._session = Session(self._source, self._detector, self._turns, self._emit)
            if self._quitting.is_set():  # the person left while the model was still loading
                return
            self._session.run()
        except UserError as error:
            self.failure = str(error)
            self.call_from_thread(self.exit)

    def _report(self, plugin: str, message: str) -> None:
        self._emit(ErrorRaised(source=plugin, message=f"plugin {plugin} {message}"))

    def _emit(self, event: Event) -> None:
        """Called from the loop's threads; the screen is touched by messages alone."""
        if isinstance(event, LevelMeasured):
            self._frames += 1
            if self._frames % METER_EVERY:
                return
        self.post_message(Happened(event))

    def on_happened(self, message: Happened) -> None:
        event = message.event
        handler = _HANDLERS.get(type(event))
        # The last events of a session may arrive when the screen is already taken down.
        if handler and self.query(StatusLine):
            handler(self, event)

    def _status(self, **parts: str) -> None:
        self.query_one(StatusLine).show(**parts)

    def _show_level(self, event: LevelMeasured) -> None:
        self.query_one(LevelMeter).show(event)

    def _show_listening(self, event: Listening) -> None:
        self._status(source=event.source, state="listening")
        self.query_one("#hint", Static).update("Listening. Speak, or let it hear something.")

    def _show_opened(self, event: WindowOpened) -> None:
        self._status(state=f"hearing {event.kind}")

    def _show_closed(self, event: WindowClosed) -> None:
        self._status(state="listening")
        self.query_one("#hint", Static).display = False
        view = TurnView(event)
        conversation = self.query_one("#conversation", VerticalScroll)
        conversation.mount(view)
        conversation.scroll_end(animate=False)

    def _turn(self, window: int) -> TurnView | None:
        found = self.query(f"#turn-{window}")
        return found.first(TurnView) if found else None

    def _show_turn(self, event: TurnStarted) -> None:
        if view := self._turn(event.window):
            view.start(event.kind, event.skill)

    def _show_token(self, event: TokenGenerated) -> None:
        if view := self._turn(event.window):
            view.add(event.text)
            self.query_one("#conversation", VerticalScroll).scroll_end(animate=False)

    def _show_response(self, event: Responded) -> None:
        if view := self._turn(event.response.window_id):
            view.finish(event.response)
        timings = event.response.timings_ms
        self._status(latency=f"first token {timings.first_token:.0f} ms, all {timings.total:.0f} ms")

    def _show_dropped_window(self, event: WindowDropped) -> None:
        if view := self._turn(event.window):
            view.drop(event.reason)

    def _show_dropped_frames(self, event: FramesDropped) -> None:
        self.notify(f"{event.count} blocks of sound were lost: the machine is too busy", severity="warning")

    def _show_error(self, event: ErrorRaised) -> None:
        self.notify(event.message, title=event.source, severity="error")

    def _show_device(self, event: DeviceStateChanged) -> None:
        if event.state == "active":
            self._status(source=event.device, state="listening")
            return
        self._status(state=f"microphone {event.state}")
        self.notify(f"{event.device}: {event.reason}", title=f"microphone {event.state}", severity="warning")

    def _show_stopped(self, event: Stopped) -> None:
        self._status(state=f"stopped: {event.reason}")

    def action_cut(self) -> None:
        """Close the open window and answer it."""
        if self._session:
            self._session.cut_now()

    def action_cancel(self) -> None:
        """Stop the running answer; listening goes on."""
        if self._session:
            self._session.cancel()

    def action_mute(self) -> None:
        if self._session is None:
            return
        muted = self._session.muted
        muted.clear() if muted.is_set() else muted.set()
        self._status(muted="muted" if muted.is_set() else "")

    def action_next_skill(self) -> None:
        """Another skill answers speech from now on."""
        if self._turns is None:
            return
        names = [name for name, skill in self._turns.host.skills.items() if "speech" in skill.kinds]
        now = self._turns.profile.answer.speech
        chosen = names[(names.index(now) + 1) % len(names)] if now in names else names[0]
        answer = self._turns.profile.answer.model_copy(update={"speech": chosen})
        self._turns.profile = self._turns.profile.model_copy(update={"answer": answer})
        self._status(skill=chosen)


def _load_turns(profile: Profile, report: Callable[[str, str], None], safe: bool) -> Turns:
    return make_turns(profile, report, safe)


_HANDLERS: dict[type[Event], Callable[[AssistantApp, Any], None]] = {
    LevelMeasured: AssistantApp._show_level,
    Listening: AssistantApp._show_listening,
    WindowOpened: AssistantApp._show_opened,
    WindowClosed: AssistantApp._show_closed,
    WindowDropped: AssistantApp._show_dropped_window,
    TurnStarted: AssistantApp._show_turn,
    TokenGenerated: AssistantApp._show_token,
    Responded: AssistantApp._show_response,
    FramesDropped: AssistantApp._show_dropped_frames,
    ErrorRaised: AssistantApp._show_error,
    DeviceStateChanged: AssistantApp._show_device,
    Stopped: AssistantApp._show_stopped,
}
