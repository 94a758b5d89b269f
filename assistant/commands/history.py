"""`assistant history`: search, list, show, export, forget."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from assistant.commands.output import complain, print_json, print_rows
from assistant.errors import UserError
from assistant.history import HistoryStore, KeptTurn, history_path, privacy_line
from assistant.history.export import FORMATS, ONE_SESSION, latest_session
from assistant.history.records import clock_time
from assistant.profile import load
from assistant.records import BROKEN_OFF

UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def parse_time(text: str) -> float:
    """Seconds since 1970 of `2026-05-01`, `2026-05-01T14:30` (local time) or an age: `30m`, `2h`, `7d`, `3w`.

    Raises:
        UserError: it is neither.
    """
    if age := re.fullmatch(r"(\d+)([mhdw])", text.strip()):
        return time.time() - int(age[1]) * UNITS_S[age[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        raise UserError(f"no time: {text!r}; write 2026-05-01, 2026-05-01T14:30 or an age such as 2h or 7d") from error


def search(query: str, profile: str, since: str | None, limit: int, as_json: bool) -> None:
    start = parse_time(since) if since else 0.0
    with _opened(profile) as store:
        found = store.search(query, start, limit) if store else []
    if as_json:
        for turn, excerpt in found:
            print_json(turn.as_dict() | {"excerpt": excerpt})
        return
    print_rows((_row(turn) | {"text": excerpt} for turn, excerpt in found), as_json)
    if not found:
        complain(f"nothing found for {query!r}")


def list_turns(profile: str, since: str | None, limit: int, as_json: bool) -> None:
    start = parse_time(since) if since else 0.0
    with _opened(profile) as store:
        turns = store.turns(start, last=limit) if store else []
    if as_json:
        _print_turns(turns)
        return
    print_rows((_row(turn) | {"text": _answer(turn)} for turn in turns), as_json)
    if not turns:
        complain("nothing is kept yet" if not since else f"nothing is kept since {clock_time(start)}")


def show(number: int, profile: str, save_audio: Path | None, as_json: bool) -> None:
    with _opened(profile) as store:
        if store is None:
            raise UserError(f"no turn {number} in the history: nothing is kept yet")
        turn = store.turn(number)
        if save_audio is not None:
            _write(save_audio, store.audio(number))
    if as_json:
        print_json(turn.as_dict() | {"privacy": privacy_line(turn)})
        return
    for key, value in _shown(turn):
        print(f"{key:<9} {value}")


def export(profile: str, format_: str, since: str | None, output: Path | None) -> None:
    if format_ not in FORMATS:
        raise UserError(f"no format {format_!r}; there are: {', '.join(FORMATS)}")
    start = parse_time(since) if since else 0.0
    with _opened(profile) as store:
        turns = store.turns(start) if store else []
    if format_ in ONE_SESSION and len({turn.session.uid for turn in turns}) > 1:
        turns = latest_session(turns)
        complain(f"subtitles hold one session: the last, of {clock_time(turns[0].session.started_at)}")
    text = FORMATS[format_](turns)
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text.encode())


def forget(numbers: list[int], before: str | None, everything: bool, yes: bool, profile: str, as_json: bool) -> None:
    if (bool(numbers) + (before is not None) + everything) != 1:
        raise UserError("say what to forget: the numbers of turns, or --before TIME, or --all")
    limit = parse_time(before) if before is not None else 0.0
    act: Callable[[HistoryStore], int]
    if numbers:
        act = lambda store: store.forget(numbers)  # noqa: E731
    elif before is not None:
        act = lambda store: store.forget_before(limit)  # noqa: E731
    else:
        act = HistoryStore.forget_all
    with _opened(profile) as store:
        if everything and store and not yes and sys.stdin.isatty():
            _confirm(store)
        count = act(store) if store else 0
    if as_json:
        print_json({"forgotten": count})
    else:
        print(f"{count} turn{'' if count == 1 else 's'} forgotten")


def show_path(profile: str) -> None:
    print(history_path(load(profile).history))


def _confirm(store: HistoryStore) -> None:
    import typer

    typer.confirm(f"Forget everything in {store.path}?", abort=True)


def _opened(profile: str) -> AbstractContextManager[HistoryStore | None]:
    """The profile's history, or None if nothing was ever kept: looking makes no file."""
    path = history_path(load(profile).history)
    return HistoryStore(path) if path.exists() else nullcontext()


def _print_turns(turns: Iterable[KeptTurn]) -> None:
    for turn in turns:
        print_json(turn.as_dict())


def _row(turn: KeptTurn) -> dict[str, Any]:
    return {
        "id": turn.id,
        "time": clock_time(turn.window.closed_at)[:19].replace("T", " "),
        "kind": turn.kind,
        "skill": turn.skill,
    }


def _answer(turn: KeptTurn) -> str:
    """In one line, and whether it is a whole one."""
    return f"{_short(turn.answer)} {BROKEN_OFF.get(turn.end, '')}".strip()


def _short(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def _shown(turn: KeptTurn) -> Iterable[tuple[str, Any]]:
    w, s = turn.window, turn.session
    yield "turn", f"{turn.id}, {clock_time(w.closed_at)}"
    yield "window", f"{w.number}: {turn.kind}, {w.start_s:.2f} s + {w.duration_s:.2f} s, ended by {w.reason}"
    yield "heard on", f"{s.device} ({w.level_dbfs:.1f} dBFS)"
    yield "profile", f"{s.profile}, {s.model}"
    yield "skill", turn.skill
    if turn.said:
        yield "said", turn.said
    if turn.answer is not None:
        yield "prompt", turn.prompt
        yield "answer", turn.answer
    if turn.slots is not None:
        yield "record", dict(turn.slots)
    yield "ended", turn.end
    if turn.timings_ms:
        yield "timings", ", ".join(f"{key} {value:g} ms" for key, value in turn.timings_ms.items())
    yield "privacy", privacy_line(turn)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    complain(f"written: {path}")
