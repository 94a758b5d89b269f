"""What the plugins show beside the conversation."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from assistant.tui.wording import Shown, panels_text


class PanelBoard(VerticalScroll):
    """The panels of all plugins; not there as long as there are none."""

    can_focus = False

    def compose(self) -> ComposeResult:
        yield Static()

    def on_mount(self) -> None:
        self.show(())

    def show(self, panels: Sequence[Shown]) -> None:
        self.set_class(not panels, "-empty")
        self.query_one(Static).update(panels_text(panels))
