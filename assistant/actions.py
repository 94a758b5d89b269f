"""What a skill may ask the assistant to do with an answer. Plain records; the assistant does it, and says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Show:
    """Show a text beside the answer."""

    text: str


@dataclass(frozen=True)
class Notify:
    """A desktop notification (and a toast on the screen)."""

    title: str
    body: str = ""


@dataclass(frozen=True)
class Write:
    """Append a text to a file; a relative path is in the user's own data folder."""

    path: str
    text: str


@dataclass(frozen=True)
class Record:
    """A typed record for whoever consumes the event stream; its values must be plain JSON."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """Another question on the same window, without encoding it again: by a skill, or in words of its own."""

    instruction: str | None = None
    skill: str | None = None


Action = Show | Notify | Write | Record | Ask
