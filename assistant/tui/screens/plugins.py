"""What the plugins show and what they print, over the whole screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Log, Static

from assistant.tui.wording import Shown, panels_text

NO_PANELS = "No plugin shows anything now; each may after any answer."
NO_OUTPUT = "No plugin has printed anything, and nothing has happened to one."


class Panels(ModalScreen[None]):
    """The panels with room for all of their columns; they go on changing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,b,q", "dismiss", "Close")]

    def __init__(self, panels: Sequence[Shown]) -> None:
        super().__init__()
        self._panels = panels

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog wide"):
            yield Static("What the plugins show", classes="title")
            yield Static(id="all-panels")
        yield Footer()

    def on_mount(self) -> None:
        self.show(self._panels)

    def show(self, panels: Sequence[Shown]) -> None:
        self.query_one("#all-panels", Static).update(panels_text(panels, owners=True) if panels else NO_PANELS)


class PluginOutput(ModalScreen[None]):
    """What the plugins printed, the newest at the end; it goes on while it is open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,l,q", "dismiss", "Close")]

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__()
        self._lines = list(lines)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide log"):
            yield Static("Plugin output", classes="title")
            yield Log(max_lines=1000)
        yield Footer()

    def on_mount(self) -> None:
        log = self.query_one(Log)
        log.write_lines(self._lines or [NO_OUTPUT])
        log.focus()

    def add(self, line: str) -> None:
        log = self.query_one(Log)
        if not self._lines:
            log.clear()
        self._lines.append(line)
        log.write_line(line)
