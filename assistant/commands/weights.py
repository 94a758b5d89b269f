"""`assistant weights`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from assistant.commands.output import print_rows

if TYPE_CHECKING:
    from rich.progress import TaskID


def pull_all(names: list[str]) -> None:
    """Fetch the parts with a progress bar."""
    from salmonn_core.weights.sources import PARTS, cache_folder, is_complete, pull

    for name in names or list(PARTS):
        if is_complete(cache_folder() / name):
            print(f"{name}: here")
            continue
        with _Bar() as bar:
            folder = pull(name, bar.update)
        print(f"{name}: {folder}")


def convert_official(checkpoint: str, beats: str, whisper: str, llm: str, out: str) -> None:
    """Write a model folder from published files."""
    from pathlib import Path

    from salmonn_core.loading import models_folder
    from salmonn_core.weights.official import convert, resolve

    def report(message: str) -> None:
        print(message, file=sys.stderr)

    target = Path(out) if Path(out).name != out else models_folder() / out
    convert(resolve(checkpoint, beats, whisper, llm, report), target, report)
    print(target)


class _Bar:
    """A rich progress bar that follows (what, done, total) reports."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(file=sys.stderr))
        self._progress.start()
        self._tasks: dict[str, TaskID] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, what: str, done: int, total: int) -> None:
        """A step with a size gets a bar, one without a line."""
        if what not in self._tasks:
            self._finish_all()
            if not total:
                self._progress.console.print(what)
            self._tasks[what] = self._progress.add_task(what, total=total or None, visible=bool(total))
        self._progress.update(self._tasks[what], completed=min(done, total))

    def _finish_all(self) -> None:
        for task in self._progress.tasks:
            self._progress.update(task.id, completed=task.total or 1)


def list_all(as_json: bool) -> None:
    from salmonn_core.weights.sources import PARTS, RECORD, cache_folder, is_complete

    rows = []
    for part in PARTS.values():
        folder = cache_folder() / part.name
        here = is_complete(folder)
        record = folder / RECORD
        source = json.loads(record.read_text())["source"] if here and record.exists() else None
        size = sum(f.stat().st_size for f in folder.glob("*")) // 1_000_000 if here else part.disk_bytes // 1_000_000
        rows.append({"name": part.name, "here": here, "mb": size, "license": part.license, "source": source})
    print_rows(rows, as_json)


def show_path(name: str | None) -> None:
    from salmonn_core.weights.sources import cache_folder, locate

    print(locate(name) if name else cache_folder())
