"""The level meter."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from assistant.events import LevelMeasured
from assistant.tui.drawing import level_bar
from assistant.tui.wording import gate

WORDS = 68  # characters that the words beside the bar need
NARROWEST, WIDEST = 16, 60


class LevelMeter(Static):
    """Level, noise floor (╎), threshold (┃) and what the gate thinks; a bar, or words alone."""

    plain = False
    _last = ""

    def show(self, event: LevelMeasured) -> None:
        words = (
            f"{event.level_dbfs:4.0f} dBFS, floor {event.noise_floor_dbfs:.0f} ╎, "
            f"threshold {event.threshold_dbfs:.0f} ┃  {gate(event)}"
        )
        if self.plain:
            words = words.replace(" ╎", "").replace(" ┃", "")
        else:
            width = max(NARROWEST, min(WIDEST, self.size.width - WORDS))
            bar = level_bar(event.level_dbfs, event.noise_floor_dbfs, event.threshold_dbfs, width)
            words = f"{bar} {words}"
        if words != self._last:
            self._last = words
            self.update(Text(words, no_wrap=True, overflow="ellipsis"), layout=False)
