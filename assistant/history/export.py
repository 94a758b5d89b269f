"""History as Markdown, JSON or subtitles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import groupby

from assistant.history.records import KeptTurn, privacy_line


def markdown(turns: Sequence[KeptTurn]) -> str:
    """A heading a day, a paragraph a turn."""
    return "\n".join(line for day, of_day in groupby(turns, _day) for line in _markdown_day(day, of_day))


def _markdown_day(day: str, turns: Iterator[KeptTurn]) -> Iterator[str]:
    yield f"# {day}\n"
    for turn in turns:
        at = datetime.fromtimestamp(turn.window.closed_at)
        ended = "" if turn.end == "done" else f" ({turn.end})"
        yield f"## {at:%H:%M:%S} {turn.kind}, {turn.window.duration_s:.1f} s, {turn.skill}{ended}\n"
        if turn.prompt:
            yield f"> {turn.prompt}\n"
        if turn.said:
            yield f'Heard: "{turn.said}"\n'
        yield f"{_text(turn)}\n"
        if turn.slots is not None:
            yield f"```json\n{json.dumps(dict(turn.slots), ensure_ascii=False)}\n```\n"


def as_json(turns: Sequence[KeptTurn]) -> str:
    """One array of objects."""
    return json.dumps([turn.as_dict() for turn in turns], ensure_ascii=False, indent=2) + "\n"


def srt(turns: Sequence[KeptTurn]) -> str:
    """SubRip subtitles: one cue a turn, timed by the stream of its session."""
    cues = enumerate(_cues(turns, ","), 1)
    return "".join(f"{number}\n{times}\n{text}\n\n" for number, (times, text) in cues)


def vtt(turns: Sequence[KeptTurn]) -> str:
    """WebVTT subtitles, timed as in `srt`."""
    escaped = ((times, text.replace("&", "&amp;").replace("<", "&lt;")) for times, text in _cues(turns, "."))
    return "WEBVTT\n\n" + "".join(f"{times}\n{text}\n\n" for times, text in escaped)


FORMATS: dict[str, Callable[[Sequence[KeptTurn]], str]] = {
    "markdown": markdown,
    "json": as_json,
    "srt": srt,
    "vtt": vtt,
}
ONE_SESSION = frozenset({"srt", "vtt"})  # times in a stream mean nothing across streams


def latest_session(turns: Sequence[KeptTurn]) -> list[KeptTurn]:
    """The turns of the session that the last turn belongs to."""
    return [turn for turn in turns if turn.session.uid == turns[-1].session.uid] if turns else []


def _cues(turns: Sequence[KeptTurn], comma: str) -> Iterator[tuple[str, str]]:
    for turn in sorted(turns, key=lambda turn: turn.window.start_s):
        # A cue ends at an empty line, so that none may stand in its text.
        text = "\n".join(line for line in (turn.answer or "").splitlines() if line.strip())
        if text:
            start, end = turn.window.start_s, turn.window.start_s + turn.window.duration_s
            yield f"{_time(start, comma)} --> {_time(end, comma)}", text.replace("-->", "->")


def _time(seconds: float, comma: str) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{comma}{milliseconds:03}"


def _day(turn: KeptTurn) -> str:
    return f"{datetime.fromtimestamp(turn.window.closed_at):%Y-%m-%d}"


def _text(turn: KeptTurn) -> str:
    return turn.answer if turn.answer is not None else f"({privacy_line(turn)})"
