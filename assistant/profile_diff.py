"""What changes when one profile follows another, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assistant.profile import Profile

UNITS = {"_s": " s", "_ms": " ms", "_db": " dB", "_dbfs": " dBFS", "_days": " days"}
SILENT = ("name", "description")  # these are shown already; they change nothing


def reloads_model(old: Profile, new: Profile) -> bool:
    """Whether the model has to be loaded again."""
    return old.core != new.core


def changes(old: Profile, new: Profile) -> list[str]:
    """One phrase a changed setting, such as `end silence 0.8 to 1.25 s`."""
    before, after = old.model_dump(), new.model_dump()
    return [phrase for key in after if key not in SILENT for phrase in _compare((key,), before.get(key), after[key])]


def describe(old: Profile, new: Profile) -> str:
    """All of it in one line, ending with what it costs."""
    listed = ", ".join(changes(old, new)) or "nothing changes"
    cost = "the model is loaded again, the old one answers until then" if reloads_model(old, new) else "no model reload"
    return f"{listed}; {cost}"


def _compare(at: tuple[str, ...], old: Any, new: Any) -> Iterator[str]:
    if isinstance(old or {}, Mapping) and isinstance(new or {}, Mapping) and (old or new):
        old, new = old or {}, new or {}
        for key in dict.fromkeys((*old, *new)):
            yield from _compare((*at, str(key)), old.get(key), new.get(key))
    elif old != new:
        label, unit = _named(at)
        yield f"{label} {_shown(old)} to {_shown(new)}{unit}"


def _named(at: tuple[str, ...]) -> tuple[str, str]:
    """A key's words and its unit: `hearing.end_silence_s` is `end silence`, in s."""
    name, unit = at[-1], ""
    for suffix, sign in sorted(UNITS.items(), key=lambda item: -len(item[0])):
        if name.endswith(suffix):
            name, unit = name.removesuffix(suffix), sign
            break
    # The sections that everybody knows need no name; a plugin's or a key's does.
    owner = f"{' '.join(at[:-1])} " if at[0] not in ("hearing", "generation", "core") else ""
    return f"{owner}{name}".replace("_", " "), unit


def _shown(value: Any) -> str:
    if value is None or value == {}:
        return "unset"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
