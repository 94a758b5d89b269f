"""The last answer in large letters."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from assistant.tui.drawing import large


class Caption(Static):
    """Shows the newest words as large as they fit, to be read across the room."""

    _words = "listening"
    plain = False

    def show(self, words: str) -> None:
        self._words = words.strip() or self._words
        self.draw()

    def draw(self) -> None:
        width, height = self.size.width, self.size.height
        if not width:  # hidden
            return
        self.update(Text(self._words if self.plain else large(self._words, width, height), no_wrap=not self.plain))

    def on_resize(self) -> None:
        self.draw()
