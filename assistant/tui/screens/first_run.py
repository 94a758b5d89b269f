"""The first start: which microphone, does it hear, fetch the model, write the user's profile."""

from __future__ import annotations

import threading
from typing import ClassVar

import numpy as np
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, OptionList, ProgressBar, Static
from textual.widgets.option_list import Option

from assistant.audio.background import level_dbfs
from assistant.errors import UserError
from assistant.first_run import TEST_S, verdict, write_profile
from assistant.profile import Profile
from assistant.records import FRAME_S
from assistant.tui.drawing import FLOOR_DBFS, level_bar
from assistant.tui.services import Microphone, Services

METER_EVERY, BAR = 4, 50
ASIDE = -200.0  # a mark that stands at the bar's left end: there is no floor or threshold to show yet


HOW = "Choose with the arrows, speak, and watch the level. t tests it, u uses it."


class FirstRun(ModalScreen[bool]):
    """Ends with True when the profile is written, with False if the person leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "test", "Test for two seconds"),
        Binding("u", "use", "Use this one"),
        Binding("l", "look", "Look for devices again"),
        Binding("q,escape", "dismiss(False)", "Leave"),
    ]

    def __init__(self, services: Services, profile: Profile) -> None:
        super().__init__()
        self._services, self._profile = services, profile
        self._microphones: list[Microphone] = []
        self._chosen: Microphone | None = None
        self._meter_stop = threading.Event()
        self._recorded: list[np.ndarray] | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="first-run"):
            yield Static("Welcome. Which microphone shall the assistant hear?", classes="title")
            yield OptionList()
            yield Static("", id="level", markup=False)
            yield Static(HOW, id="verdict")
            yield Static("", id="step", markup=False)
            yield ProgressBar(show_eta=True)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(ProgressBar).display = False
        self.action_look()

    def on_unmount(self) -> None:
        self._meter_stop.set()

    @work(thread=True, exclusive=True, group="devices")
    def action_look(self) -> None:
        """List the microphones."""
        try:
            found = self._services.microphones()
        except UserError as error:
            self.call_later(self._say, str(error))
            return
        self.call_later(self._list, found)

    def _list(self, found: list[Microphone]) -> None:
        self._microphones = found
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(f"{m.name}{' (the default)' if m.default else ''}", str(m.number)) for m in found)
        if not found:
            self._say("No microphone was found. Plug one in and press l, or leave with q and use --input FILE.")
            return
        self._say(HOW)
        options.highlighted = next((at for at, m in enumerate(found) if m.default), 0)
        options.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._chosen = self._microphones[event.option_index]
        self._meter_stop.set()
        self._meter_stop = threading.Event()
        self._watch_level(self._chosen, self._meter_stop)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_test()

    @work(thread=True, group="meter")
    def _watch_level(self, microphone: Microphone, stopped: threading.Event) -> None:
        """Runs in a thread of its own as long as this microphone is highlighted."""
        try:
            source = self._services.open_source(str(microphone.number), self._profile)
            for count, frame in enumerate(source.frames(stopped.is_set)):
                if isinstance(frame, np.ndarray) and not stopped.is_set():
                    self._hear(frame, count)
        except UserError as error:
            if not stopped.is_set():
                self.call_later(self._say, str(error))

    def _hear(self, frame: np.ndarray, count: int) -> None:
        recorded = self._recorded
        if recorded is not None:
            recorded.append(frame)
            if len(recorded) * FRAME_S >= TEST_S:
                self._recorded = None
                self.call_later(self._judge, np.concatenate(recorded))
        if count % METER_EVERY == 0:
            self.call_later(self._show_level, level_dbfs(frame))

    def _show_level(self, level: float) -> None:
        bar = level_bar(level, ASIDE, ASIDE, BAR)[1:]
        self.query_one("#level", Static).update(f"{bar} {max(level, FLOOR_DBFS):4.0f} dBFS")

    def action_test(self) -> None:
        """Record two seconds and say whether they will do."""
        if self._chosen:
            self._say("Speak now, for two seconds...")
            self._recorded = []

    def _judge(self, samples: np.ndarray) -> None:
        good, words = verdict(samples)
        self._say(f"{words} {'Press u to use it.' if good else 'Press t to try again, or u to use it anyway.'}")

    def _say(self, words: str) -> None:
        self.query_one("#verdict", Static).update(words)

    def action_use(self) -> None:
        if self._chosen:
            self._finish(self._chosen)

    @work(thread=True, exclusive=True, group="finish")
    def _finish(self, microphone: Microphone) -> None:
        """Fetch what is missing, then write the profile."""
        try:
            for name in self._services.missing_weights():
                self._services.fetch_weights(name, self._progress)
            write_profile(None if microphone.default else microphone.name)
        except UserError as error:
            self.call_later(self._step, f"{error}. Press u to try again.")
            return
        self.call_later(self._done)

    def _done(self) -> None:
        self._meter_stop.set()
        self.dismiss(True)

    def _progress(self, what: str, done: int, total: int) -> None:
        self.call_later(self._step, what, done, total)

    def _step(self, what: str, done: int = 0, total: int = 0) -> None:
        self.query_one("#step", Static).update(what)
        bar = self.query_one(ProgressBar)
        bar.display = bool(total)
        bar.update(total=total or None, progress=done)
