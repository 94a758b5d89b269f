"""What can be done with a window that was heard: select, replay, ask again, explain, save, forget."""

from __future__ import annotations

import threading
from pathlib import Path

from textual import work
from textual.app import App

from assistant.errors import UserError
from assistant.heard import HeardWindows
from assistant.records import AudioWindow
from assistant.tui.loop import Loop
from assistant.tui.messages import ReplayEnded, WindowHeard, WindowSelected
from assistant.tui.screens import AskAgain, Confirm, EnterText, Question, Why
from assistant.tui.services import Services
from assistant.tui.trail import Trail
from assistant.tui.widgets import Conversation, StatusLine, WindowStrip


class WindowActions(App[None]):
    """The half of the screen that looks back."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services = services
        self.heard, self.trail = HeardWindows(), Trail()
        self.loop: Loop | None = None
        self.selected: int | None = None
        self._picked = False  # by the person; until then the newest window is selected
        self._state, self._resting = "loading", True  # what goes on while nothing is heard or answered
        self._muted = self._paused = self._replaying = False
        self._away = False  # the microphone
        self._hush = threading.Event()

    def on_window_heard(self, message: WindowHeard) -> None:
        strip = self.query_one(WindowStrip)
        for gone in self.heard.add(message.window):
            strip.forget(gone)
        strip.add(message.window)
        if not self._picked or self.heard.get(self.selected) is None:
            self.call_after_refresh(self._select, message.window.id)

    def on_window_selected(self, message: WindowSelected) -> None:
        self._picked = True
        self._select(message.window)

    def _select(self, number: int | None) -> None:
        self.selected = number
        self.query_one(WindowStrip).select(number)
        self.query_one(StatusLine).show(selected=str(number) if number else "")

    def action_previous_window(self) -> None:
        self._step(-1)

    def action_next_window(self) -> None:
        self._step(+1)

    def _step(self, step: int) -> None:
        number = self.heard.neighbour(self.selected, step)
        newest = self.heard.neighbour(None, 0)
        self._picked = number != newest  # at the newest, the selection follows what is heard
        self._select(number)

    def _chosen(self) -> AudioWindow | None:
        window = self.heard.get(self.selected)
        if window is None:
            self.notify("No window is selected: nothing was heard yet, or its sound is no longer kept")
        return window

    def action_replay(self) -> None:
        """Play the selected window; the ears are off meanwhile."""
        window = self._chosen()
        if window is None or self._replaying:
            return
        self._replaying = True
        self._hush.clear()
        self._set_ears()
        self._replay(window)

    @work(thread=True, group="replay")
    def _replay(self, window: AudioWindow) -> None:
        """Runs in a thread: playing blocks."""
        error = None
        try:
            self.services.play(window.samples, self._hush.is_set)
        except UserError as failure:
            error = failure
        self.post_message(ReplayEnded(error))

    def on_replay_ended(self, message: ReplayEnded) -> None:
        self._replaying = False
        self._set_ears()
        if message.error:
            self.notify(str(message.error), title="speaker", severity="error", markup=False)

    def _set_ears(self) -> None:
        """Muted by the person or by a replay, paused, or neither; said in the status line."""
        if self.loop:
            self.loop.set_ears(self._muted or self._replaying, self._paused)
        talking = self.loop is not None and self.loop.session is not None and self.loop.session.talking.is_set()
        states = {
            "muted": self._muted,
            "paused": self._paused,
            "replaying, ears off": self._replaying,
            "talking: press again to be answered": talking,
        }
        self.query_one(StatusLine).show(ears=", ".join(words for words, true in states.items() if true))
        self._show_state()

    @property
    def _deaf(self) -> bool:
        """By the person or a replay."""
        return self._muted or self._paused or self._replaying

    def _rest(self) -> None:
        """Nothing is heard or answered any more."""
        self._resting = True
        self._show_state()

    def _show_state(self) -> None:
        if self._resting:
            deaf = self._state == "listening" and (self._deaf or self._away)
            self.query_one(StatusLine).show(state="not listening" if deaf else self._state)

    def action_ask_again(self) -> None:
        """Ask the selected window with another skill or question."""
        window, turns = self._chosen(), self.loop.turns if self.loop else None
        if window is None or turns is None:
            return
        skills = list(turns.host.skills.values())

        def asked(question: Question | None) -> None:
            if question:
                self._ask(window, question)

        self.push_screen(AskAgain(window.id, skills), asked)

    @work(thread=True, group="ask")
    def _ask(self, window: AudioWindow, question: Question) -> None:
        """Runs in a thread: it waits for the running turn, then answers."""
        if self.loop:
            self.loop.ask(window, question.skill, question.instruction)

    def action_why(self) -> None:
        """Explain the selected window."""
        story = None if self.selected is None else self.trail.windows.get(self.selected)
        if story is None:
            self.notify("No window is selected")
        else:
            self.push_screen(Why(story))

    def action_save(self) -> None:
        """Write the selected window as WAV, where the person says."""
        window = self._chosen()
        if window is None:
            return

        def named(path: str | None) -> None:
            if path:
                self._save(window, Path(path).expanduser())

        self.push_screen(EnterText("Save this window as a WAV file", f"window-{window.id}.wav"), named)

    def _save(self, window: AudioWindow, path: Path) -> None:
        if path.exists():
            self.notify(f"{path} is there already; nothing was saved", severity="error", markup=False)
            return
        try:
            self.services.save_wave(path, window)
        except UserError as error:
            self.notify(str(error), severity="error", markup=False)
        else:
            self.notify(f"saved {path.resolve()}", markup=False)

    def action_delete(self) -> None:
        """Forget the selected window, its sound and its answers."""
        if self.selected is None:
            self.notify("No window is selected: there is nothing to forget")
            return
        number, following = self.selected, self.heard.neighbour(self.selected, +1)
        if following == number:
            following = self.heard.neighbour(number, -1)
        self._forget(number)
        self.notify(f"window {number} and its answers are forgotten", markup=False)
        self._select(following if following != number else None)

    def _forget(self, number: int) -> None:
        """In memory and in the history."""
        self._drop(number)
        self.services.forget(number)

    def _drop(self, number: int) -> None:
        self.heard.forget(number)
        self.trail.forget(number)
        self.query_one(WindowStrip).forget(number)
        self.query_one(Conversation).forget(number)
        if self.loop:
            self.loop.forget(number)

    def action_wipe(self) -> None:
        """Forget everything, after a question."""
        stored = "and what is stored on this machine " if self.services.wipe else ""
        text = f"All windows, their answers {stored}are gone after this. Enter does it, Escape leaves it."
        self.push_screen(Confirm("Forget everything that was heard?", text), self._wipe)

    def _wipe(self, sure: bool | None) -> None:
        if not sure:
            return
        for number in list(self.trail.windows):
            self._drop(number)
        self._select(None)
        said = self.services.wipe() if self.services.wipe else "everything that was heard is forgotten"
        self.notify(said, markup=False)
