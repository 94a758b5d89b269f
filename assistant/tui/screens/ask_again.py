"""Ask a window that was heard before something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from assistant.records import Skill


class Question(NamedTuple):
    """Which skill, or the person's own words."""

    skill: str | None
    instruction: str | None


class AskAgain(ModalScreen[Question | None]):
    """Choose a skill with Enter, or type a question of your own and press Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Leave it")]

    def __init__(self, window: int, skills: Sequence[Skill]) -> None:
        super().__init__()
        self._window, self._skills = window, skills

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static(f"Ask window {self._window} again", classes="title")
            yield OptionList(*(Option(f"{skill.name}: {skill.description}", skill.name) for skill in self._skills))
            yield Input(placeholder="or type a question of your own", select_on_focus=False)
            yield Footer()

    def on_key(self, event: Key) -> None:
        """What is typed goes where it can be read, also while the list has the focus."""
        field = self.query_one(Input)
        if event.is_printable and event.character and not field.has_focus:
            field.focus()
            field.insert_text_at_cursor(event.character)
            event.stop()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self.dismiss(Question(event.option_id, None))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(Question(None, event.value.strip()))
