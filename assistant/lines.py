"""What plugins show and ask for, as lines of plain text: the same on the screen and without one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assistant.events import ActionTaken

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")  # a plugin's escape codes would redraw the terminal


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """The rows of a table, each column as wide as its widest cell."""
    from rich.cells import cell_len

    clean = [[CONTROL.sub(" ", cell).strip() for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in _columns(clean)]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in clean
    ]


def _columns(rows: list[list[str]]) -> list[list[str]]:
    longest = max(map(len, rows), default=0)
    return [[row[at] for row in rows if at < len(row)] for at in range(longest)]


def record_lines(values: Mapping[str, Any]) -> list[str]:
    """A typed record, one field a line."""
    return aligned((name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items())


def action_lines(event: ActionTaken, slots: Mapping[str, Any] | None = None) -> list[str]:
    """What was done with an answer.

    Args:
        slots: the answer's own record, where it stands above already; the same one is not said twice.
    """
    values = dict(event.values)
    if event.kind == "record":
        name = values.pop("name", "")
        return [f"record: {name}", *([] if values == slots else (f"  {line}" for line in record_lines(values)))]
    if event.kind == "write":
        return [f"written to {values['path']}"]
    if event.kind == "notify":
        return ["notified: " + one_line(": ".join(filter(None, (values["title"], values["body"]))))]
    return [one_line(line) for line in str(values.get("text", "")).splitlines()]


def panel_lines(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """A panel with its title: a badge in one line, anything else below it."""
    if len(rows) == 1 and len(rows[0]) == 1:
        return [f"{one_line(title)}: {one_line(rows[0][0])}"]
    return [one_line(title), *aligned(rows)]


def one_line(text: str) -> str:
    """Without line breaks and escape codes."""
    return CONTROL.sub(" ", text).strip()
