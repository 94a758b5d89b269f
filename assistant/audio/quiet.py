"""ALSA, JACK and PortAudio print to file descriptor 2 whenever they like, from threads of their own.

While a microphone is in use descriptor 2 leads nowhere, and Python's stderr (which the screen draws on) has a
descriptor of its own, so that nothing of ours is lost meanwhile.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from assistant.errors import UserError

NATIVE_LOG = "ASSISTANT_NATIVE_LOG"  # names a file that gets what the libraries print, to diagnose them
STDERR = 2

_lock = threading.Lock()
_users = 0
_saved = -1


@contextmanager
def native_output_apart() -> Iterator[None]:
    """Hide what C libraries print for as long as any thread is in here; they may be nested."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _users, _saved  # noqa: PLW0603 - the descriptor is the process's, and so is who hides it
    with _lock:
        if _users == 0 and os.name == "posix" and _is_open(STDERR):
            away = _open_log()
            _move_python_off()
            _saved = os.dup(STDERR)
            os.dup2(away, STDERR)
            os.close(away)
        _users += 1


def _open_log() -> int:
    path = os.environ.get(NATIVE_LOG) or os.devnull
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"{NATIVE_LOG}: cannot write to {path} ({error.strerror})") from error


def _leave() -> None:
    global _users, _saved  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0 and _saved >= 0:
            os.dup2(_saved, STDERR)
            os.close(_saved)
            _saved = -1


def _move_python_off() -> None:
    """Let Python's stderr write to a copy of descriptor 2, in place: others hold these objects already."""
    for stream in {sys.stderr, sys.__stderr__}:
        raw = _file_of(stream)
        if stream is not None and raw is not None and raw.fileno() == STDERR:
            stream.flush()
            copy = os.dup(STDERR)
            type(raw).__init__(raw, copy, "wb", closefd=False)  # its closefd was False as well: nothing is closed


def _file_of(stream: Any) -> io.FileIO | None:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # stderr has no buffer between, unless somebody wrapped it
    return raw if isinstance(raw, io.FileIO) and not raw.closed else None


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
