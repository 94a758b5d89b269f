"""Keeps a record to what was heard: its values are looked up in what the model writes down of the same window.

A small model fills in words that nobody said. What it writes down is more reliable than what it makes of it, so that
a value counts only if it is there, and times, durations, dates and numbers are read from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .slot_values import date, date_time, digits, duration, number, time

if TYPE_CHECKING:
    from .slot_schema import Property

UNITS = r"(seconds?|minutes?|hours?|days?|weeks?)"
HALF_DAY = r"(a\.? ?m\b\.?|p\.? ?m\b\.?|in the (morning|afternoon|evening)|at night|tonight)"
OCLOCK = r"(o'?|an? )?clock\b"  # as it is said, and as it is sometimes heard
CLOCK = rf"\d{{1,2}}([: .](oh )?\d{{1,2}})?( {OCLOCK})?( {HALF_DAY})?"
TIMES = re.compile(
    rf"\b(noon|midday|midnight|((a )?quarter|half|\d+( minutes?)?) (past|after|to|before) {CLOCK}"
    rf"|(?<=\bat ){CLOCK}\b(?! {UNITS})|\d{{1,2}}([: .]\d{{2}})? ?({OCLOCK}( {HALF_DAY})?|{HALF_DAY}))"
)
MONTHS = "(january|february|march|april|may|june|july|august|september|october|november|december)"
WEEKDAYS = "(monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
DAY = r"\d{1,2}(st|nd|rd|th)"
DATES = re.compile(
    rf"\b(today|tonight|(day after )?tomorrow|(next |this )?{WEEKDAYS}|(the )?{DAY} (of )?{MONTHS}"
    rf"|{MONTHS} (the )?{DAY}|in \d+ (days?|weeks?|months?))\b"
)
NUMBERS = re.compile(rf"(minus |-)?\b\d+(\.\d+)?\b(?! ?({UNITS}|{OCLOCK}|[ap]\.? ?m\b))")


def heard(said: Mapping[str, Any], fields: Mapping[str, Property], transcript: str) -> dict[str, Any]:
    """The record with what is in the transcript, in the words that were said; null for the rest."""
    return {name: _heard(field, said[name], transcript) for name, field in fields.items()}


def _heard(field: Property, said: Any, transcript: str) -> Any:
    if field.enum:
        return said  # the one that was listened for
    known = said if _is_in(said, transcript) else None
    if field.format:
        return _read(FINDERS[field.format](transcript), said) or (
            known if field.format == "time" and _is_in(said, _without_durations(transcript)) else None
        )
    if field.type in {"integer", "number"}:
        return None if said is None else _read(_numbers(transcript), said)
    return said if field.type == "boolean" else known


def _read(found: list[str], said: Any) -> str | None:
    """The one that has the model's words in it, or the first."""
    meant = (words for words in found if _is_in(said, words))
    return next(meant, None) or next(iter(found), None)


def _is_in(said: Any, transcript: str) -> bool:
    """Whether the words are there in a row, in singular or plural, numbers in words or digits."""
    words, text = _plain(str(said)), _plain(transcript)
    return said is not None and bool(words) and f" {words} " in f" {text} "


def _without_durations(transcript: str) -> str:
    """Of "five minutes" the five is no time of day."""
    return re.sub(rf"\b\d+(\.\d+)? {UNITS}\b", " ", digits(transcript))


def _plain(text: str) -> str:
    return " ".join(word.removesuffix("s") for word in re.findall(r"[\w']+", digits(text)))


def _times(transcript: str) -> list[str]:
    return [match[0] for match in TIMES.finditer(digits(transcript)) if time(match[0])]


def _durations(transcript: str) -> list[str]:
    return [transcript] if duration(transcript) else []


def _dates(transcript: str) -> list[str]:
    return [match[0] for match in DATES.finditer(digits(transcript)) if date(match[0])]


def _date_times(transcript: str) -> list[str]:
    return [transcript] if date_time(transcript) else []


def _numbers(transcript: str) -> list[str]:
    return [match[0] for match in NUMBERS.finditer(digits(transcript)) if number(match[0]) is not None]


FINDERS: dict[str, Callable[[str], list[str]]] = {
    "time": _times,
    "duration": _durations,
    "date": _dates,
    "date-time": _date_times,
}
