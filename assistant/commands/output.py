"""Tables for people, JSON lines for scripts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

ENDLESS = 100_000  # columns


def print_json(value: Mapping[str, Any]) -> None:
    """One object, one line, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_rows(rows: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """A table whose columns are the keys of the first row, or a JSON object a row.

    A terminal folds what does not fit; a pipe gets a line a row, whatever its length.
    """
    rows = list(rows)
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold")
    for row in rows:
        # As `Text`: a caption's [dog barks] is no markup.
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else ENDLESS).print(table)


def write_to_nobody() -> None:
    """The reader of our output has left (`| head`): a second failure while closing must not print either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """One clear line on stderr."""
    print(f"assistant: {message}", file=sys.stderr)
