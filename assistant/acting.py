"""Does what skills ask for: notifies, writes, passes records on. Each thing done is an event."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from assistant.actions import Action, Notify, Record, Write
from assistant.events import ActionTaken, ErrorRaised, Event
from assistant.records import AudioWindow


def data_folder() -> Path:
    """Where relative paths of `Write` lead; `ASSISTANT_DATA` overrides the platform's place."""
    root = os.environ.get("ASSISTANT_DATA")
    return Path(root) if root else user_data_path("listening-assistant")


def act(action: Action, window: AudioWindow, skill: str) -> Event:
    """Do it. `Ask` is the loop's own business and `Show` and `Record` are the event's: nothing else happens."""
    try:
        if isinstance(action, Write):
            _append(_path(action), action.text)
        elif isinstance(action, Notify):
            _notify(action)
    except OSError as error:
        return ErrorRaised(source=f"skill {skill}", message=f"could not {_kind(action)}: {error}")
    return told(action, window, skill)


def told(action: Action, window: AudioWindow, skill: str) -> Event:
    """The event of an action, without doing it."""
    values: dict[str, Any] = asdict(action)
    if isinstance(action, Record):
        values = {"name": action.name} | dict(action.values)
    elif isinstance(action, Write):
        values = {"path": str(_path(action))}
    return ActionTaken(window=window.id, skill=skill, kind=_kind(action), values=values)


def _kind(action: Action) -> str:
    return type(action).__name__.lower()


def _path(action: Write) -> Path:
    return data_folder() / Path(action.path).expanduser()


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", opener=_for_its_owner) as file:
        file.write(text)


def _for_its_owner(path: str, flags: int) -> int:
    """What was said is nobody else's business, as in the history."""
    return os.open(path, flags, 0o600)


def _notify(action: Notify) -> None:
    """Through the desktop's own service, in a thread: a bus that does not answer must not hold up the loop.

    Where there is no such service the event is all that is seen: on the screen, a toast.
    """

    def send() -> None:
        from desktop_notifier.sync import DesktopNotifierSync

        # It logs a traceback where there is no bus; over a screen that would be noise.
        logging.getLogger("desktop_notifier").setLevel(logging.CRITICAL)
        DesktopNotifierSync(app_name="assistant").send(title=action.title, message=action.body)

    threading.Thread(target=send, name="notification", daemon=True).start()
