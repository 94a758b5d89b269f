"""The strip of past windows, each with a tiny spectrogram."""

from __future__ import annotations

from rich.text import Text
from textual.containers import ScrollableContainer
from textual.widgets import Static

from assistant.records import AudioWindow
from assistant.tui.drawing import spectrogram
from assistant.tui.messages import WindowSelected
from assistant.tui.wording import MARKS

COLUMNS, ROWS = 22, 3


class WindowTile(Static):
    """One window: number, kind, length, and what it sounded like."""

    def __init__(self, window: AudioWindow) -> None:
        super().__init__(id=f"window-{window.id}")
        self.window = window.id
        self._kind: str = window.kind
        self._length = f"{window.duration_s:.1f} s"
        self._picture = spectrogram(window.samples, COLUMNS, ROWS)
        self.show()

    def show(self, kind: str | None = None, selected: bool | None = None) -> None:
        """Draw it anew, with the kind that the model heard; the selected one carries an arrow."""
        self._kind = kind or self._kind
        if selected is not None:
            self.set_class(selected, "-selected")
        plain = self.has_class("-plain")
        head = f"{'▶' if self.has_class('-selected') else ' '}{self.window} {MARKS[self._kind]} {self._length}"
        words = head.replace("▶", "selected ").replace("» ", "").replace("♪ ", "")
        self.update(Text(f"window {words.strip()}") if plain else Text("\n".join((head, *self._picture))))

    def on_click(self) -> None:
        self.post_message(WindowSelected(self.window))


class WindowStrip(ScrollableContainer):
    """The windows that are still in memory, the newest at the end."""

    can_focus = False
    plain = False

    def add(self, window: AudioWindow) -> None:
        tile = WindowTile(window)
        tile.set_class(self.plain, "-plain")
        self.mount(tile)

    def on_resize(self) -> None:
        self._keep_in_sight()

    def watch_virtual_size(self) -> None:
        """A tile has its place now: before, nobody could scroll there."""
        self._keep_in_sight()

    def _keep_in_sight(self) -> None:
        for tile in self.query(".-selected"):
            self.call_after_refresh(tile.scroll_visible, animate=False)

    def tile(self, number: int) -> WindowTile | None:
        found = self.query(f"#window-{number}")
        return found.first(WindowTile) if found else None

    def forget(self, number: int | None = None) -> None:
        for tile in self.query(WindowTile):
            if number is None or tile.window == number:
                tile.remove()

    def select(self, number: int | None) -> None:
        for tile in self.query(WindowTile):
            chosen = tile.window == number
            if chosen != tile.has_class("-selected"):
                tile.show(selected=chosen)
            if chosen:
                tile.scroll_visible(animate=False)

    def draw_plain(self, plain: bool) -> None:
        self.plain = plain
        for tile in self.query(WindowTile):
            tile.set_class(plain, "-plain")
            tile.show()
