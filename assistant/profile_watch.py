"""Notices when the files of the running profile change. Asked now and then; it has no thread of its own."""

from __future__ import annotations

from pathlib import Path

from assistant.errors import UserError
from assistant.profile import Profile, available, find, load


class ProfileWatch:
    """Watches a profile by name, with everything that it may extend.

    Args:
        name: as `--profile` takes it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._seen = self._state()

    def poll(self) -> Profile | UserError | None:
        """The profile if a file has changed since the last call, or what is wrong with it; None if none has."""
        state = self._state()
        if state == self._seen:
            return None
        self._seen = state
        try:
            return load(self.name)
        except UserError as error:
            return error

    def _state(self) -> list[tuple[Path, int, int]]:
        files = [file.path for file in available().values()]
        if self.name.endswith((".yaml", ".yml")):
            files.append(Path(self.name))
        stats = [(path, path.stat()) for path in files if path.exists()]
        return [(path, stat.st_mtime_ns, stat.st_size) for path, stat in stats]


def origin(name: str) -> str:
    """Which file won, in a few words: `default (yours)`."""
    file = find(name)
    whose = {"bundled": "bundled", "user": "yours", "path": str(file.path)}[file.origin]
    return f"{file.name} ({whose})"
