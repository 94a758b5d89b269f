"""The status line: one row, shortened by priority; two rows where the screen is very narrow."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.widgets import Static

Forms = tuple[str, ...]  # of one part, from long to short; an empty last one may go away altogether
SEPARATOR = " | "
TWO_ROWS_BELOW = 60  # columns
ROWS = (("state", "ears", "away", "device"), ("privacy", "profile", "skill", "core", "latency", "selected"))
# Who gives way first. State, ears, device and privacy are never lost; the rest can be found elsewhere on the screen.
GIVE_WAY = (
    *("latency", "core", "skill", "selected", "profile", "device", "privacy"),
    *(
        "selected",
        "core",
        "skill",
        "latency",
        "profile",
        "ears",
        "away",
        "device",
        "privacy",
        "device",
        "device",
        "profile",
    ),
)


def forms(name: str, value: str) -> Forms:
    """How a part can be said, from long to short."""
    short = value.split(" (", maxsplit=1)[0]
    known: dict[str, Forms] = {
        "profile": (f"profile {value}", short, cut(short, 10)),
        "skill": (f"speech answered by {value}", f"skill {value}", ""),
        "device": (f"device {value}", value, cut(value, 16), cut(value, 8)),
        "ears": (value, value.split(":", maxsplit=1)[0]),
        "away": (value, value.replace("microphone", "mic")),
        "selected": (f"window {value} selected", ""),
    }
    return known.get(name, (value,))


def cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"


def fit(parts: Sequence[tuple[str, Forms]], width: int) -> str:
    """One row of those parts, shortened in the order of `GIVE_WAY` until it fits; what room is left is given back."""
    whole = dict(parts)
    left = dict(parts)
    for name in GIVE_WAY:
        if cell_len(_row(left)) <= width:
            break
        if len(left.get(name, ())) > 1:
            left[name] = left[name][1:]
    for name in reversed(GIVE_WAY):
        longer = left | {name: whole[name][-len(left[name]) - 1 :]} if name in whole else left
        if cell_len(_row(longer)) <= width:
            left = longer
    return _row(left)


def _row(parts: dict[str, Forms]) -> str:
    return SEPARATOR.join(said[0] for said in parts.values() if said[0])


class StatusLine(Static):
    """What is true right now, in words: state, device, privacy, profile and its file, skill, core, latency."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._parts: dict[str, Forms] = {"state": ("loading",)}

    def show(self, **parts: str | Forms) -> None:
        """Change some of the parts; an empty one goes away."""
        changed = self._parts | {
            name: () if not value else forms(name, value) if isinstance(value, str) else value
            for name, value in parts.items()
        }
        if changed != self._parts:
            self._parts = changed
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        width = self.content_size.width
        if not width:  # not laid out yet
            return
        rows = ROWS if width < TWO_ROWS_BELOW else (ROWS[0] + ROWS[1],)
        self.styles.height = len(rows)
        lines = [fit([(name, self._parts[name]) for name in row if self._parts.get(name)], width) for row in rows]
        self.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))
