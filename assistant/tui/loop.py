"""Loads the model and runs sessions, one after another when the device changes. Knows nothing of widgets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext

from assistant.audio.source import Source
from assistant.errors import UserError
from assistant.events import ErrorRaised, Event, WindowOpened
from assistant.profile import Profile
from assistant.profile_diff import reloads_model
from assistant.records import AudioWindow, question_of_ones_own
from assistant.session import Session
from assistant.tui.services import Services
from assistant.turns import Turns

DEVICE_CHANGED = "device changed to"


class Loop:
    """`run` blocks until the end; everything else may be called from other threads.

    Args:
        emit: told every event, from the loop's threads.
        heard: given every window with its sound.
    """

    def __init__(
        self,
        profile: Profile,
        source: Source,
        services: Services,
        emit: Callable[[Event], None],
        heard: Callable[[AudioWindow], None],
    ) -> None:
        self.profile, self.source = profile, source
        self._services, self._emit, self._heard = services, emit, heard
        self._next: Source | None = None
        self._windows = 0
        self._quitting = threading.Event()
        self.turns: Turns | None = None
        self.session: Session | None = None
        self.muted = self.paused = False

    def run(self) -> None:
        """Load the model and listen, until the input ends or `stop` is called.

        Raises:
            UserError: the model cannot be loaded, or the first device cannot be opened.
        """
        self.turns = self._services.load_turns(self.profile, self._report)
        try:
            self._run_sessions()
        finally:
            with self._one_turn_at_a_time():
                self.turns.close()

    def _run_sessions(self) -> None:
        before: Source | None = None
        while self.turns is not None and not self._quitting.is_set():
            try:
                self._listen(self.turns)
            except UserError as error:
                if before is None:
                    raise
                self._emit(ErrorRaised(source="device", message=f"{error}; back to {before.name}"))
                self._next, self.source = before, before
            if self._next is None:
                return
            before, self.source, self._next = self.source, self._next, None

    def _listen(self, turns: Turns) -> None:
        detector = self._services.detector(self.profile)
        self.session = Session(self.source, detector, turns, self._told, self._heard, self._windows)
        self.set_ears(self.muted, self.paused)
        if not self._quitting.is_set():  # the person may have left while the model was loading
            self.session.run()

    def _told(self, event: Event) -> None:
        if isinstance(event, WindowOpened):
            self._windows = event.window
        self._emit(event)

    def _report(self, plugin: str, message: str) -> None:
        self._emit(ErrorRaised(source=plugin, message=f"plugin {plugin} {message}"))

    def set_ears(self, muted: bool, paused: bool) -> None:
        """Feed silence to the gate, or nothing at all."""
        self.muted, self.paused = muted, paused
        if self.session is None:
            return
        for event, wanted in ((self.session.muted, muted), (self.session.paused, paused)):
            event.set() if wanted else event.clear()

    def stop(self) -> None:
        self._quitting.set()
        if self.session:
            self.session.stop("quit")

    def listen_to(self, source: Source) -> None:
        """Go on with another device; windows are numbered on."""
        self._next = source
        if self.session:
            self.session.stop(f"{DEVICE_CHANGED} {source.name}")

    def switch(self, profile: Profile) -> None:
        """Go on under another profile. Blocks while a model is loaded; the old one answers until then.

        Raises:
            UserError: the profile does not fit; the old one stays in force.
        """
        if self.turns is None:
            raise UserError("the model is still loading; switch the profile when it listens")
        if reloads_model(self.profile, profile):
            turns = self._services.load_turns(profile, self._report)
            with self._one_turn_at_a_time():
                for name, state in self.turns.host.plugins.items():
                    if state.disabled is not None and name in turns.host.plugins:
                        turns.host.switch(name, state.disabled)  # what is off for the session stays off
                self.turns.close()
                self.turns = turns
        else:
            with self._one_turn_at_a_time():
                self.turns.switch(profile)
        self.profile = profile
        if self.session:
            self.session.use(self.turns, self._services.detector(profile))

    def switch_plugin(self, name: str, off: str | None) -> None:
        """Switch a plugin off, for a reason, or on again; blocks."""
        if self.turns is not None:
            with self._one_turn_at_a_time():
                self.turns.host.switch(name, off)

    def ask(self, window: AudioWindow, skill: str | None, instruction: str | None) -> None:
        """Answer a window that was heard before; blocks. It is not encoded again while the model still has it.

        Args:
            skill: None for an instruction of the person's own.
        """
        if self.turns is None:
            return
        with self._one_turn_at_a_time():
            try:
                chosen = self.turns.host.skill(skill) if skill else question_of_ones_own(instruction or "")
                kept = window.id in self.turns.heard
                again = self.turns.again(window.id, chosen, instruction) if kept else None
                for event in again or self.turns.answer(window, chosen, instruction):
                    self._emit(event)
            except UserError as error:
                self._emit(ErrorRaised(source="turn", message=str(error)))

    def _one_turn_at_a_time(self) -> threading.Lock | nullcontext[None]:
        return self.session.answering if self.session else nullcontext()

    def cancel(self) -> None:
        if self.turns:
            self.turns.cancel.set()

    def forget(self, number: int) -> None:
        if self.turns:
            self.turns.forget(number)
