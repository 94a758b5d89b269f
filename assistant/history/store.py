"""The history file: add, find, forget. Opened by the running loop and by the command line at the same time."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from platformdirs import user_data_path

from assistant.errors import UserError
from assistant.history.records import KeptSession, KeptTurn, KeptWindow
from assistant.history.schema import check_version, migrate
from assistant.profile import HistorySettings

BUSY_S = 5.0
DAY_S = 86_400.0
COLUMNS = """
    t.id, t.kind, t.skill, t.said, t.prompt, t.answer, t.slots, t.timings_ms, t."end", t.seen_by, t.left_machine,
    w.number, w.closed_at, w.start_s, w.duration_s, w.reason, w.level_dbfs, w.audio IS NOT NULL AS kept_audio,
    s.uid, s.started_at, s.profile, s.model, s.device
"""
TURN_COLUMNS = ("kind", "skill", "said", "prompt", "answer", "slots", "timings_ms", "end", "seen_by", "left_machine")
JOINED = "turns t JOIN windows w ON w.id = t.window JOIN sessions s ON s.id = w.session"


def history_path(settings: HistorySettings) -> Path:
    """The profile's file, or `history.db` in the platform's data folder (`ASSISTANT_DATA` overrides the folder)."""
    if settings.path:
        return Path(settings.path).expanduser()
    root = os.environ.get("ASSISTANT_DATA")
    return (Path(root) if root else user_data_path("listening-assistant")) / "history.db"


def wipe(settings: HistorySettings) -> int:
    """Forget everything in the profile's history file; the number of turns that were in it. For one key or command.

    Raises:
        UserError: the file cannot be read or written.
    """
    path = history_path(settings)
    if not path.exists():
        return 0
    with HistoryStore(path) as store:
        return store.forget_all()


class HistoryStore:
    """An open history file, made with mode 0600 if there is none. Belongs to the thread that opened it.

    Raises:
        UserError: from every method, if the file is damaged, of a newer version, busy, or its disk is full.
            The file is never deleted or replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            _make_private(path)
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        check_version(self._connection, self.path)  # before anything is changed in a file that may not be ours
        # In this order: the file can only learn to shrink before it holds anything.
        for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "secure_delete = ON", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        migrate(self._connection, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._explained():
            self._connection.close()

    def add(self, turn: KeptTurn, audio: bytes | None = None) -> int:
        """Store a turn with its session and window if they are new; its id.

        Args:
            audio: the window's sound as a FLAC file.
        """
        session, window = turn.session, turn.window
        with self._transaction() as run:
            _insert(run, "sessions", asdict(session))
            owner = run("SELECT id FROM sessions WHERE uid = ?", (session.uid,)).fetchone()[0]
            _insert(run, "windows", asdict(window) | {"session": owner, "audio": audio})
            find = "SELECT id FROM windows WHERE session = ? AND number = ?"
            values = {name: getattr(turn, name) for name in TURN_COLUMNS}
            values |= {name: _packed(values[name]) for name in ("slots", "timings_ms", "seen_by")}
            values["window"] = run(find, (owner, window.number)).fetchone()[0]
            return int(_insert(run, "turns", values).lastrowid or 0)

    def turns(self, since: float = 0.0, before: float | None = None, last: int | None = None) -> list[KeptTurn]:
        """Turns from `since` up to `before` (seconds since 1970), oldest first; at most the `last` so many."""
        newest_first = f"SELECT {COLUMNS} FROM {JOINED} WHERE w.closed_at >= ? AND w.closed_at < ? ORDER BY t.id DESC"
        until = float("inf") if before is None else before
        with self._explained():
            rows = self._connection.execute(f"{newest_first} LIMIT ?", (since, until, -1 if last is None else last))
            return [_turn(row) for row in reversed(rows.fetchall())]

    def turn(self, number: int) -> KeptTurn:
        """The turn of that id.

        Raises:
            UserError: there is none.
        """
        with self._explained():
            row = self._connection.execute(f"SELECT {COLUMNS} FROM {JOINED} WHERE t.id = ?", (number,)).fetchone()
        if row is None:
            raise UserError(f"no turn {number} in the history; see: assistant history list")
        return _turn(row)

    def audio(self, number: int) -> bytes:
        """The sound of a turn's window, a FLAC file.

        Raises:
            UserError: no such turn, or its sound was not kept.
        """
        self.turn(number)
        query = "SELECT w.audio FROM turns t JOIN windows w ON w.id = t.window WHERE t.id = ?"
        with self._explained():
            audio = self._connection.execute(query, (number,)).fetchone()[0]
        if audio is None:
            raise UserError(f"the sound of turn {number} was not kept (history.keep_audio in the profile)")
        return bytes(audio)

    def search(self, query: str, since: float = 0.0, limit: int = 20) -> list[tuple[KeptTurn, str]]:
        """Turns that hold every word of the query, best first, each with an excerpt that has the words in brackets.

        Args:
            query: words, `"phrases"` and beginnings (`kett*`), in what was said, the prompt, the answer or the record.

        Raises:
            UserError: there is no word in the query.
        """
        statement = f"""
            SELECT {COLUMNS}, snippet(words, -1, '[', ']', '...', 16) AS excerpt
            FROM words JOIN {JOINED.replace("turns t", "turns t ON t.id = words.rowid", 1)}
            WHERE words MATCH ? AND w.closed_at >= ? ORDER BY words.rank LIMIT ?
        """
        with self._explained():
            rows = self._connection.execute(statement, (_match(query), since, limit)).fetchall()
        return [(_turn(row), row["excerpt"]) for row in rows]

    def forget(self, numbers: list[int]) -> int:
        """Remove turns by id, with the sound of windows that no other turn is about.

        Raises:
            UserError: one of them does not exist; then none is removed.
        """
        for number in numbers:
            self.turn(number)
        marks = ", ".join("?" * len(numbers))
        return self._forget(f"id IN ({marks})", tuple(numbers))

    def forget_window(self, number: int, session: str) -> int:
        """Remove the turns about a window, by its number and the uid of its session; how many turns that were."""
        return self._forget(
            "window IN (SELECT windows.id FROM windows JOIN sessions ON sessions.id = windows.session "
            "WHERE windows.number = ? AND sessions.uid = ?)",
            (number, session),
        )

    def forget_before(self, seconds: float) -> int:
        """Remove what was heard before a time in seconds since 1970; how many turns that were."""
        return self._forget("window IN (SELECT id FROM windows WHERE closed_at < ?)", (seconds,))

    def forget_all(self) -> int:
        """Remove everything; how many turns that were."""
        return self._forget("TRUE", ())

    def expire(self, days: int | None) -> int:
        """Remove what is older than so many days; None keeps it."""
        if days is None:
            return 0
        limit = time.time() - days * DAY_S
        with self._explained():
            old = self._connection.execute("SELECT 1 FROM windows WHERE closed_at < ? LIMIT 1", (limit,)).fetchone()
        return self.forget_before(limit) if old else 0

    def _forget(self, where: str, arguments: tuple[Any, ...]) -> int:
        with self._transaction() as run:
            count = run(f"DELETE FROM turns WHERE {where}", arguments).rowcount
            run("DELETE FROM windows WHERE id NOT IN (SELECT window FROM turns)")
            run("DELETE FROM sessions WHERE id NOT IN (SELECT session FROM windows)")
            # A deleted word stays in the index's old segments until they are merged.
            run("INSERT INTO words (words) VALUES ('optimize')")
        with self._explained():
            # It gives a row without columns for each page, and `execute` would stop at the first.
            self._connection.executescript("PRAGMA incremental_vacuum")
            self._empty_the_log()
        return count

    def _empty_the_log(self) -> None:
        """What was deleted must leave the write-ahead log too."""
        busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise UserError(
                f"forgotten, but traces stay in {self.path}-wal while another program reads it; "
                "run the command again when that has ended"
            )

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have rolled it back already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UserError(f"history {self.path}: {error}{_advice(str(error))}") from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"history {self.path} is damaged or no history file ({error}); it is left as it is: "
                "move it away, or give history.path in the profile another name"
            ) from error
        except OSError as error:
            raise UserError(f"history {self.path}: {error.strerror or error}") from error


def _insert(run: Any, table: str, values: Mapping[str, Any]) -> sqlite3.Cursor:
    """A row, unless one with the same unique columns is there already."""
    columns, marks = ", ".join(f'"{name}"' for name in values), ", ".join(f":{name}" for name in values)
    return run(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", values)


def _make_private(path: Path) -> None:
    """Mode 0600 before SQLite first sees it; its log files take the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)


def _advice(message: str) -> str:
    if "locked" in message or "busy" in message:
        return "; another program is writing to it, try again"
    if "full" in message or "disk I/O" in message:
        return "; make room on the disk"
    return ""


def _match(query: str) -> str:
    """An FTS5 expression from words, phrases and beginnings; everything else that FTS5 would read is quoted away."""
    found = re.findall(r'"([^"]*)"|([^\s"]+)', query)
    terms = [(phrase or word.rstrip("*"), word.endswith("*")) for phrase, word in found]
    wanted = [f'"{text}"{"*" if beginning else ""}' for text, beginning in terms if re.search(r"\w", text)]
    if not wanted:
        raise UserError(f'nothing to search for in {query!r}; give words, "a phrase" or a beginning such as kett*')
    return " ".join(wanted)


def _packed(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _turn(row: sqlite3.Row) -> KeptTurn:
    window = KeptWindow(
        row["number"], row["closed_at"], row["start_s"], row["duration_s"], row["reason"], row["level_dbfs"]
    )
    return KeptTurn(
        session=KeptSession(row["started_at"], row["profile"], row["model"], row["device"], row["uid"]),
        window=window,
        kind=row["kind"],
        skill=row["skill"],
        prompt=row["prompt"],
        answer=row["answer"],
        slots=None if row["slots"] is None else json.loads(row["slots"]),
        timings_ms=json.loads(row["timings_ms"]),
        end=row["end"],
        seen_by=tuple(json.loads(row["seen_by"])),
        left_machine=bool(row["left_machine"]),
        kept_audio=bool(row["kept_audio"]),
        said=row["said"],
        id=row["id"],
    )
