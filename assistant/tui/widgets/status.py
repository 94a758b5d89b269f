"""The status line."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

LABELS = {
    "profile": "profile ",
    "skill": "speech answered by ",
    "core": "core ",
    "device": "device ",
    "selected": "window ",
}
ORDER = ("state", "ears", "profile", "skill", "core", "device", "privacy", "latency", "selected")


class StatusLine(Static):
    """What is true right now, in words: state, profile and its file, skill, core, device, privacy, latency."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._parts: dict[str, str] = {"state": "loading"}

    def show(self, **parts: str) -> None:
        """Change some of the parts; an empty one goes away."""
        changed = self._parts | parts
        if changed == self._parts:
            return
        self._parts = changed
        text = "  |  ".join(LABELS.get(name, "") + self._parts[name] for name in ORDER if self._parts.get(name))
        self.update(Text(text))
