"""Choose a profile, and see what it changes before it does."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from assistant.errors import UserError
from assistant.profile import Profile, available, load
from assistant.profile_diff import describe
from assistant.profile_watch import origin


class ChooseProfile(ModalScreen[str | None]):
    """The profiles by name; under them what the highlighted one would change.

    Args:
        wanted: the one to begin with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Leave it")]

    def __init__(self, running: Profile, wanted: str | None = None) -> None:
        super().__init__()
        self._current, self._wanted = running, wanted or running.name
        self._names = list(available())

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static("Choose a profile; Enter switches to it", classes="title")
            yield OptionList(*(Option(origin(name), name) for name in self._names))
            yield Static("", id="changes", markup=False)
            yield Footer()

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = self._names.index(self._wanted) if self._wanted in self._names else 0

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self.query_one("#changes", Static).update(self._preview(str(event.option_id)))

    def _preview(self, name: str) -> str:
        try:
            return f"Then: {describe(self._current, load(name))}"
        except UserError as error:
            return f"It cannot be used: {error}"

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)
