"""Why a window opened and ended, who answered it, and how long it took."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from assistant.tui.trail import WindowStory
from assistant.tui.wording import why


class Why(ModalScreen[None]):
    """The story of one window and of every turn about it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,w,q", "dismiss", "Close")]

    def __init__(self, story: WindowStory) -> None:
        super().__init__()
        self._story = story

    def compose(self) -> ComposeResult:
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="bold", no_wrap=True)
        rows.add_column(overflow="fold")
        for what, words in why(self._story):
            rows.add_row(Text(what), Text(words))  # square brackets in an answer are no markup
        with VerticalScroll(classes="dialog wide"):
            yield Static(f"Why: window {self._story.id}", classes="title")
            yield Static(rows, id="why")
        yield Footer()
