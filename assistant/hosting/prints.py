"""What plugins print is kept off the screen and out of JSON lines: it is collected by plugin instead."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import Any, TextIO

LONGEST = 500  # characters kept of one print
MOST = 20  # prints kept until somebody collects them
_thread = threading.local()
_lock = threading.Lock()


@dataclass
class Printed:
    """One line that a plugin printed; it grows until its end comes, as `print` writes its arguments one by one."""

    text: str

    @staticmethod
    def of_this_thread(collected: list[Printed]) -> None:
        """From now on what this thread prints goes to that list."""
        _thread.collected, _thread.line = collected, None


class _Router:
    """Stands where `sys.stdout` or `sys.stderr` stood; threads of plugins are heard apart."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        collected: list[Printed] | None = getattr(_thread, "collected", None)
        if collected is None:
            return self._stream.write(text)
        line: Printed | None = _thread.line
        if line is not None:
            line.text = (line.text + text)[:LONGEST]
        elif text.strip() and len(collected) < MOST:
            line = Printed(text[:LONGEST])
            collected.append(line)
        _thread.line = None if text.endswith("\n") else line
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def listen_to_prints() -> None:
    """Make sure that both streams are routed; others (a screen, a test runner) may have replaced them meanwhile."""
    with _lock:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, _Router):
                setattr(sys, name, _Router(stream))
