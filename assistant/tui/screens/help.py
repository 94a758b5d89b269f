"""The keys, as they are bound now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from assistant.keys import KEYS


def table(bound: Mapping[str, str]) -> str:
    """One line a key."""
    return "\n".join(f"{bound[key.action]:>10}  {key.does}" for key in KEYS)


class Help(ModalScreen[None]):
    """Lists the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q", "dismiss", "Close")]

    def __init__(self, bound: Mapping[str, str]) -> None:
        super().__init__()
        self._bound = bound

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog wide"):
            yield Static("Keys", classes="title")
            yield Static(table(self._bound), markup=False)
            yield Static("\nA profile can move them: keys: {mute: f2}", markup=False, classes="hint")
        yield Footer()
