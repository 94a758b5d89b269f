"""The conversation: one view a turn."""

from __future__ import annotations

from textual.containers import VerticalScroll
from textual.widgets import Static

from assistant.tui.messages import WindowSelected
from assistant.tui.trail import TurnStory
from assistant.tui.wording import turn_text

KEPT = 200  # turns; an assistant that is left open all day does not grow


class TurnView(Static):
    """One window and one answer to it; a click selects the window."""

    def __init__(self, turn: TurnStory) -> None:
        super().__init__(turn_text(turn), id=turn.key)
        self.window = turn.window.id

    def show(self, turn: TurnStory) -> None:
        self.update(turn_text(turn))

    def on_click(self) -> None:
        self.post_message(WindowSelected(self.window))


class Conversation(VerticalScroll):
    """The last turns, the newest at the end; it follows the end unless the person has scrolled away."""

    # Only scrolling changes it. Where the end is, compared with where we are, would not tell: a turn that has grown has
    # moved the end before we have followed. (Textual's own anchor keeps a short conversation at the bottom.)
    _follows = True

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._follows = self.is_vertical_scroll_end

    def watch_virtual_size(self) -> None:
        self._follow()

    def on_resize(self) -> None:
        self._follow()

    def _follow(self) -> None:
        if self._follows:
            self.scroll_end(animate=False)

    def show(self, turn: TurnStory) -> None:
        """Draw a turn, a new one at the end."""
        found = self.query(f"#{turn.key}")
        if found:
            found.first(TurnView).show(turn)
        else:
            self.mount(TurnView(turn))
            views = self.query(TurnView)
            if len(views) > KEPT:
                views.first().remove()

    def forget(self, window: int | None = None) -> None:
        """Take away a window's turns, or all."""
        for view in self.query(TurnView):
            if window is None or view.window == window:
                view.remove()
