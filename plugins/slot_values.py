"""From words to values: numbers, times, durations, dates, as they are said in English. None where there is no value."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
PARTS = {"half": "0.5", "quarter": "0.25"}
CLOCK = {"noon": "12:00", "midday": "12:00", "midnight": "00:00"}
LATER = r"\b(p\.? ?m\b|in the (afternoon|evening)|tonight|at night)"
EARLIER = r"\b(a\.? ?m\b|in the morning)"


def number(said: str) -> float | None:
    """A number in words or digits: "twenty five percent" is 25, "minus two point five" -2.5."""
    found = re.search(r"(\bminus |-)?(\d+(?:\.\d+)?)", digits(said))
    return (-1 if found[1] else 1) * float(found[2]) if found else None


def integer(said: str) -> int | None:
    value = number(said)
    return int(value) if value is not None and value.is_integer() else None


def duration(said: str) -> str | None:
    """ISO 8601: "an hour and a half" is PT1H30M."""
    text = digits(re.sub(r"\bsecond\b", "seconds", said))  # else it is the 2nd
    text = re.sub(r"\b(half|quarter)( of)? an? ", lambda part: f"{PARTS[part[1]]} ", text)
    text = re.sub(r"\ban? (?=\w+ and a half)|\ban? (?!half)", "1 ", text)
    text = re.sub(r"(\d+)( \w+?)?( and a half| 1/2)\b", r"\1.5\2", text)
    parts = re.findall(rf"(\d+(?:\.\d+)?)[ -]?({'|'.join(UNITS)})", text)
    seconds = sum(float(count) * UNITS[unit] for count, unit in parts)
    return TypeAdapter(timedelta).dump_python(timedelta(seconds=seconds), mode="json") if seconds else None


def time(said: str) -> str | None:
    """HH:MM: "half past seven in the evening" is 19:30."""
    text = digits(said)
    for word, clock in CLOCK.items():
        if re.search(rf"\b{word}\b", text):
            return clock
    hour, minute = _clock(text)
    if re.search(LATER, text) and hour < 12:
        hour += 12
    if re.search(EARLIER, text) and hour == 12:
        hour = 0
    return f"{hour:02}:{minute:02}" if 0 <= hour < 24 and 0 <= minute < 60 else None


def _clock(text: str) -> tuple[int, int]:
    """Hour and minute as said; hour 99 if there is none."""
    text = re.sub(r"\bhalf\b", "30", re.sub(r"\b(a )?quarter\b", "15", text))
    if found := re.search(r"(\d+)(?: minutes?)? (past|after|to|before) (\d+)", text):
        minute, hour = int(found[1]), int(found[3])
        return (hour, minute) if found[2] in {"past", "after"} else ((hour - 2) % 12 + 1, 60 - minute)
    found = re.search(r"\b(\d{1,2})(?:[: .](?:oh )?(\d{1,2}))?\b", text)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


def date(said: str) -> str | None:
    """YYYY-MM-DD, in the future where it may be: "friday" is the next one."""
    moment = _moment(said)
    return moment.date().isoformat() if moment else None


def date_time(said: str) -> str | None:
    """YYYY-MM-DDTHH:MM; without a time of day there is no value."""
    day, clock = date(re.sub(r"\bat .*", "", said) or said), time(re.sub(r".*\bat ", "", said))
    return f"{day}T{clock}" if day and clock else None


def _moment(said: str) -> datetime | None:
    import dateparser  # 0.1 s

    settings: Any = {"PREFER_DATES_FROM": "future"}
    return dateparser.parse(re.sub(r"^(on|for|by) ", "", digits(said)), languages=["en"], settings=settings)


def digits(said: str) -> str:
    """Number words as digits, the rest in small letters."""
    from text_to_num import alpha2digit

    return str(alpha2digit(said.lower(), "en", threshold=0)).replace("a dozen", "12")


FORMATS: dict[str, Callable[[str], str | None]] = {
    "date": date,
    "time": time,
    "date-time": date_time,
    "duration": duration,
}
