"""The tables, one migration a version; `PRAGMA user_version` counts those that were applied."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from assistant.errors import UserError

APPLICATION_ID = 0x4C41_4831  # "LAH1": tells our file from any other SQLite file

# Audio is a blob beside its window and no file of its own: it comes and goes in the same transaction as the text, so
# that forgetting cannot leave an orphan behind, and there is one file to protect, back up and wipe. A window is at most
# 30 s, some 500 kB as FLAC.
FIRST = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, started_at REAL NOT NULL,
    profile TEXT NOT NULL, model TEXT NOT NULL, device TEXT NOT NULL
);
CREATE TABLE windows (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions, number INTEGER NOT NULL,
    closed_at REAL NOT NULL, start_s REAL NOT NULL, duration_s REAL NOT NULL, reason TEXT NOT NULL,
    level_dbfs REAL NOT NULL, audio BLOB, UNIQUE (session, number)
);
CREATE INDEX windows_by_time ON windows (closed_at);
CREATE TABLE turns (
    -- AUTOINCREMENT: the number of a forgotten turn is never given to another one.
    id INTEGER PRIMARY KEY AUTOINCREMENT, window INTEGER NOT NULL REFERENCES windows, kind TEXT NOT NULL,
    skill TEXT NOT NULL, prompt TEXT, answer TEXT, slots TEXT, timings_ms TEXT NOT NULL, "end" TEXT NOT NULL,
    seen_by TEXT NOT NULL, left_machine INTEGER NOT NULL
);
CREATE INDEX turns_by_window ON turns (window);
CREATE VIRTUAL TABLE words USING fts5 (
    prompt, answer, slots, content = 'turns', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER turn_added AFTER INSERT ON turns BEGIN
    INSERT INTO words (rowid, prompt, answer, slots) VALUES (new.id, new.prompt, new.answer, new.slots);
END;
CREATE TRIGGER turn_forgotten AFTER DELETE ON turns BEGIN
    INSERT INTO words (words, rowid, prompt, answer, slots)
    VALUES ('delete', old.id, old.prompt, old.answer, old.slots);
END;
"""
# What was said is kept and found, too, where a skill had it written down.
SAID = """
ALTER TABLE turns ADD COLUMN said TEXT;
DROP TRIGGER turn_added;
DROP TRIGGER turn_forgotten;
DROP TABLE words;
CREATE VIRTUAL TABLE words USING fts5 (
    said, prompt, answer, slots, content = 'turns', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER turn_added AFTER INSERT ON turns BEGIN
    INSERT INTO words (rowid, said, prompt, answer, slots)
    VALUES (new.id, new.said, new.prompt, new.answer, new.slots);
END;
CREATE TRIGGER turn_forgotten AFTER DELETE ON turns BEGIN
    INSERT INTO words (words, rowid, said, prompt, answer, slots)
    VALUES ('delete', old.id, old.said, old.prompt, old.answer, old.slots);
END;
INSERT INTO words (words) VALUES ('rebuild');
"""
MIGRATIONS: tuple[str, ...] = (FIRST, SAID)


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the file to the newest version, all or nothing.

    Raises:
        UserError: as `check_version`.
    """
    version = check_version(connection, path, len(migrations))
    if version == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited for the lock.
        for script in migrations[check_version(connection, path, len(migrations)) :]:
            _run(connection, script)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def check_version(connection: sqlite3.Connection, path: Path, newest: int = len(MIGRATIONS)) -> int:
    """The file's version, 0 if it is new.

    Raises:
        UserError: it is another program's database, or of a newer version.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise UserError(f"{path} is a database of another program; give history.path in the profile another name")
    if version > newest:
        raise UserError(
            f"{path} was written by a newer assistant (schema {version}, this one knows {newest}); "
            "update the assistant, or give history.path in the profile another name"
        )
    return version


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Statement by statement: `executescript` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
