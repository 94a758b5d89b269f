"""The live screen: a Textual front over the same loop that runs headless."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import Footer, Static

from assistant import keys
from assistant.audio.source import Source
from assistant.errors import UserError
from assistant.events import (
    ActionTaken,
    DeviceStateChanged,
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
    Stopped,
    TurnStarted,
    WindowClosed,
    WindowOpened,
)
from assistant.profile import Profile, load
from assistant.profile_diff import describe, reloads_model
from assistant.profile_watch import ProfileWatch, origin
from assistant.tui.loop import DEVICE_CHANGED, Loop
from assistant.tui.messages import Happened, LoopEnded, ProfileSwitched, SwitchFailed, WindowHeard
from assistant.tui.palette import commands
from assistant.tui.plugin_views import PluginViews
from assistant.tui.screens import ChooseProfile, FirstRun, Help
from assistant.tui.services import Microphone, Services
from assistant.tui.widgets import Caption, Conversation, LevelMeter, PanelBoard, StatusLine, WindowStrip
from assistant.tui.widgets.status import Forms
from assistant.tui.wording import latency_forms

METER_EVERY, IDLE_EVERY = 4, 8  # frames of 30 ms: some eight updates a second while a window is open, else four
WATCH_EVERY_S = 1.0


class AssistantApp(PluginViews):
    """Listens from start to end; every key has its place in `assistant.keys`.

    Args:
        source: what is heard; None asks the person first, which microphone it shall be.
        watched: the profile's name or file, watched for changes; None watches nothing.
    """

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "assistant"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (140, "-broad")]  # noqa: RUF012 - Textual's own form
    VERTICAL_BREAKPOINTS = [(0, "-short"), (18, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key.key, key.action, key.label, show=key.footer, id=key.action, tooltip=key.does) for key in keys.KEYS
    ]

    def __init__(
        self, profile: Profile, source: Source | None, services: Services | None = None, watched: str | None = None
    ) -> None:
        super().__init__(services or Services())
        self.profile, self._source = profile, source
        self._watch = ProfileWatch(watched) if watched else None
        self._frames, self._kind_open = 0, ""
        self.microphones: list[Microphone] = []
        self.failure: str | None = None
        self.set_keymap(profile.keys)

    def compose(self) -> ComposeResult:
        yield StatusLine(id="status")
        yield LevelMeter(id="meter")
        yield Static("Loading the model...", id="hint", markup=False)
        with Container(id="body"):
            yield Conversation(id="conversation")
            with Vertical(id="side"):
                yield WindowStrip(id="strip")
                yield PanelBoard(id="panels")
        yield Caption(id="caption")
        yield Footer(show_command_palette=False)  # it is among the keys already

    def on_mount(self) -> None:
        self._leave_when_told()
        self.query_one(Conversation).focus()
        self._show_profile()
        self._apply_screen_settings()
        if self._watch:
            self.set_interval(WATCH_EVERY_S, self._look_at_files)
        if self._source is None:
            self.push_screen(FirstRun(self.services, self.profile), self._first_run_ended)
        else:
            self._start(self._source)

    def _leave_when_told(self) -> None:
        """A signal ends the screen as `q` does, so that the terminal is as it was."""
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self.exit)

    def _first_run_ended(self, finished: bool | None) -> None:
        if not finished:
            self.exit()
            return
        self.profile = load("default")
        self._watch = ProfileWatch("default")
        self._show_profile()
        self._start(self.services.open_source(None, self.profile))

    def _start(self, source: Source) -> None:
        self.query_one(StatusLine).show(device=source.name)
        self.loop = Loop(
            self.profile, source, self.services, self._emit, lambda window: self._tell(WindowHeard(window))
        )
        self._run_loop(self.loop)

    def on_unmount(self) -> None:
        self._hush.set()
        if self.loop:
            self.loop.stop()

    @work(thread=True, exclusive=True, group="loop")
    def _run_loop(self, loop: Loop) -> None:
        """Runs in the loop's thread."""
        try:
            loop.run()
        except UserError as error:
            self._tell(LoopEnded(error))

    def on_loop_ended(self, message: LoopEnded) -> None:
        if message.error:
            self.failure = str(message.error)
            self.exit()

    def _tell(self, message: Any) -> None:
        if self.is_running:  # the last words of a session may come when the screen is already taken down
            self.post_message(message)

    def _emit(self, event: Event) -> None:
        """Called from the loop's threads; the screen is touched by messages alone."""
        for consumer in self.services.consumers:
            consumer(event)
        if isinstance(event, LevelMeasured):
            self._frames += 1
            kind = event.open_kind or ""
            if kind == self._kind_open and self._frames % (METER_EVERY if kind else IDLE_EVERY):
                return
            self._kind_open = kind
        self._tell(Happened(event))

    def show(self, event: Event) -> None:
        """Show an event that does not come from the loop; from any thread."""
        self._tell(Happened(event))

    def on_happened(self, message: Happened) -> None:
        event = message.event
        if not self.query(StatusLine):
            return
        turn = self.trail.follow(event, self.profile.hearing, self.profile.name)
        if turn:
            self.query_one(Conversation).show(turn)
            self.query_one(Caption).show(turn.text or turn.window.kind or "")
        if handler := _HANDLERS.get(type(event)):
            handler(self, event)

    def _status(self, **parts: str | Forms) -> None:
        self.query_one(StatusLine).show(**parts)

    def _show_profile(self) -> None:
        core = self.profile.core
        self._status(
            profile=origin(self._watch.name) if self._watch else self.profile.name,
            core=(f"core {core.model} on {core.device}, {core.precision}", core.model, ""),
            skill=self.profile.answer.speech,
            privacy=self.services.privacy(self.profile),
        )

    def _apply_screen_settings(self) -> None:
        screen = self.profile.screen
        if screen.theme and screen.theme not in self.available_themes:
            names = ", ".join(self.available_themes)
            self.notify(f"screen.theme: no theme {screen.theme!r}; there are: {names}", severity="error", markup=False)
        elif screen.theme:
            self.theme = screen.theme
        self._draw_captions(screen.captions)
        self._draw_plain(screen.plain)

    def _show_level(self, event: LevelMeasured) -> None:
        self.query_one(LevelMeter).show(event)

    def _show_listening(self, event: Listening) -> None:
        self._state = "listening"
        self._status(device=event.source)
        self._rest()
        self._hint("Listening. Speak, or let it hear something. f1 lists the keys.")

    def _hint(self, words: str) -> None:
        self.query_one("#hint", Static).update(words)

    def _show_opened(self, event: WindowOpened) -> None:
        self._resting = False
        self._status(state=f"hearing {event.kind}")

    def _show_closed(self, event: WindowClosed) -> None:
        self._rest()
        self.query_one("#hint", Static).display = False
        self._set_ears()

    def _show_turn(self, event: TurnStarted) -> None:
        self._resting = False
        self._status(state=f"answering {event.window}")
        if tile := self.query_one(WindowStrip).tile(event.window):
            tile.show(kind=event.kind)

    def _show_response(self, event: Responded) -> None:
        self._rest()
        self._status(latency=latency_forms(event.response.timings_ms))

    def _show_dropped_frames(self, event: FramesDropped) -> None:
        self.notify(f"{event.count} frames of sound were lost: the machine is too busy", severity="warning")

    def _show_device(self, event: DeviceStateChanged) -> None:
        away = "" if event.state == "active" else f"microphone {event.state}"
        self._away = bool(away)
        self._status(away=away, device=event.device)
        self._show_state()
        if away:
            self._hint(f"No microphone: {event.reason}. Plug it in, or choose another: ctrl+p, Device.")
            self.notify(f"{event.device}: {event.reason}", title=away, severity="warning", markup=False)

    def _show_stopped(self, event: Stopped) -> None:
        changing = event.reason.startswith(DEVICE_CHANGED)
        self._state = "opening the microphone" if changing else f"stopped: {event.reason}"
        self._rest()
        self.query_one(LevelMeter).update("")

    def action_cut(self) -> None:
        if not self._kind_open:
            self.notify("No window is open: nothing is heard at the moment")
        elif self.loop and self.loop.session:
            self.loop.session.cut_now()

    def action_cancel(self) -> None:
        self._hush.set()
        if self.loop:
            self.loop.cancel()

    def action_talk(self) -> None:
        session = self.loop.session if self.loop else None
        if session is None:
            return
        if self._deaf and not session.talking.is_set():
            self.notify("The ears are off, so nothing that you say would be heard: listen again first")
            return
        session.toggle_talk()
        self._set_ears()

    def action_mute(self) -> None:
        self._muted = not self._muted
        self._set_ears()

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._set_ears()

    def action_next_skill(self) -> None:
        """The next skill that takes speech."""
        turns = self.loop.turns if self.loop else None
        if turns is None:
            return
        names = [name for name, skill in turns.host.skills.items() if "speech" in skill.kinds]
        now = turns.profile.answer.speech
        self.use_skill(names[(names.index(now) + 1) % len(names)] if now in names else names[0])

    def use_skill(self, name: str) -> None:
        """Another skill answers speech from now on."""
        turns = self.loop.turns if self.loop else None
        if turns:
            answer = turns.profile.answer.model_copy(update={"speech": name})
            turns.profile = turns.profile.model_copy(update={"answer": answer})
            self._status(skill=name)

    def notify(self, message: str, *, title: str = "", severity: SeverityLevel = "information", **more: Any) -> None:
        """A toast; how bad it is stands in its title too, not in its colour alone."""
        word = "" if severity == "information" else f"{severity}: " if title else severity
        super().notify(message, title=f"{word}{title}", severity=severity, **more)

    def action_captions(self) -> None:
        self._draw_captions(not self.has_class("-captions"))

    def _draw_captions(self, wanted: bool) -> None:
        self.set_class(wanted, "-captions")
        self.call_after_refresh(self.query_one(Caption).draw)

    def action_plain(self) -> None:
        self._draw_plain(not self.has_class("-plain"))

    def _draw_plain(self, wanted: bool) -> None:
        self.set_class(wanted, "-plain")
        self.query_one(LevelMeter).plain = self.query_one(Caption).plain = wanted
        self.query_one(WindowStrip).draw_plain(wanted)

    def action_help_quit(self) -> None:
        """Ctrl+C, which Textual leaves to copying."""
        self.notify(f"Press {keys.bound(self.profile.keys)['quit']} to leave", markup=False)

    def action_help(self) -> None:
        self.push_screen(Help(keys.bound(self.profile.keys)))

    def action_switch_profile(self, wanted: str | None = None) -> None:
        """Choose a profile; what it changes is shown before it does."""
        self.push_screen(ChooseProfile(self.profile, wanted), self._profile_chosen)

    def _profile_chosen(self, name: str | None) -> None:
        if name is None:
            return
        try:
            profile = load(name)
        except UserError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self._watch = ProfileWatch(name)
        self._switch(profile)

    def _look_at_files(self) -> None:
        """An edited profile is taken over; an invalid edit leaves the running one in force."""
        found = self._watch.poll() if self._watch else None
        if isinstance(found, UserError):
            self._say_kept(found)
        elif found is not None and found != self.profile:
            self._switch(found)

    def _say_kept(self, error: UserError) -> None:
        self.notify(str(error), title="the running profile stays in force", severity="error", timeout=20, markup=False)

    def _switch(self, profile: Profile) -> None:
        self.notify(describe(self.profile, profile), title=f"profile {profile.name}", timeout=8, markup=False)
        if reloads_model(self.profile, profile):
            now, then = self.profile.core.model, profile.core.model
            self._status(core=(f"loading {then}, {now} answers until then", f"loading {then}"))
        self._switch_slowly(profile)

    @work(thread=True, exclusive=True, group="switch")
    def _switch_slowly(self, profile: Profile) -> None:
        """Runs in a thread: it waits for the running turn, and perhaps for a model to load."""
        try:
            if self.loop:
                self.loop.switch(profile)
        except UserError as error:
            self._tell(SwitchFailed(error))
        else:
            self._tell(ProfileSwitched(profile))

    def on_switch_failed(self, message: SwitchFailed) -> None:
        self._watch = ProfileWatch(self.profile.name) if self._watch else None
        self._say_kept(message.error)
        self._show_profile()

    def on_profile_switched(self, message: ProfileSwitched) -> None:
        before, self.profile = self.profile, message.profile
        self.services.switched(self.profile)
        self.set_keymap(self.profile.keys)
        self._show_profile()
        self._apply_screen_settings()
        if before.hearing.input != self.profile.hearing.input:
            self.use_device(self.profile.hearing.input)

    @work(thread=True, group="switch")
    def switch_plugin(self, name: str, off: str | None) -> None:
        """Runs in a thread: it waits for the running turn."""
        if self.loop is None or self.loop.turns is None:
            return
        try:
            self.loop.switch_plugin(name, off)
        except UserError as error:
            self._tell(Happened(ErrorRaised(source="plugins", message=str(error))))
        else:
            self.call_later(self._say_switched, name, self.loop.turns.host.plugins[name].disabled)

    def _say_switched(self, name: str, off: str | None) -> None:
        self._note(name, off or "on again")
        self.notify(f"plugin {name} is {f'off, with its skills: {off}' if off else 'on'}", markup=False)

    def use_device(self, wanted: str | None) -> None:
        """Listen to another microphone; files and standard input stay where they are."""
        if self.loop is None or not self.loop.source.live:
            self.notify("a file or standard input is heard; start without --input to choose a microphone")
            return
        try:
            self.loop.listen_to(self.services.open_source(wanted, self.profile))
        except UserError as error:
            self.notify(str(error), title="device", severity="error", markup=False)

    def action_command_palette(self) -> None:
        self._list_microphones()
        super().action_command_palette()

    @work(thread=True, exclusive=True, group="devices")
    def _list_microphones(self) -> None:
        """Runs in a thread: PortAudio may take its time."""
        try:
            self.microphones = self.services.microphones()
        except UserError:
            self.microphones = []  # the palette then offers none; `assistant devices` says why

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        yield from commands(self)
        yield from super().get_system_commands(screen)


_HANDLERS: dict[type[Event], Callable[[AssistantApp, Any], None]] = {
    LevelMeasured: AssistantApp._show_level,
    Listening: AssistantApp._show_listening,
    WindowOpened: AssistantApp._show_opened,
    WindowClosed: AssistantApp._show_closed,
    TurnStarted: AssistantApp._show_turn,
    Responded: AssistantApp._show_response,
    ActionTaken: AssistantApp._show_action,
    PanelsChanged: AssistantApp._show_panels,
    PluginPrinted: AssistantApp._show_print,
    PluginReloaded: AssistantApp._show_reloaded,
    FramesDropped: AssistantApp._show_dropped_frames,
    ErrorRaised: AssistantApp._show_error,
    PluginDisabled: AssistantApp._show_disabled,
    DeviceStateChanged: AssistantApp._show_device,
    Stopped: AssistantApp._show_stopped,
}
