"""Which plugins the user has switched off, and what switched others off last time: one small JSON file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from platformdirs import user_config_path

from assistant.errors import UserError


def switches_file() -> Path:
    """Where it is; `ASSISTANT_CONFIG` overrides the platform's place."""
    root = os.environ.get("ASSISTANT_CONFIG")
    return (Path(root) if root else user_config_path("listening-assistant")) / "plugins.json"


def switched_off() -> set[str]:
    """Names of the plugins that the user has disabled."""
    return set(_read()["off"])


def failures() -> dict[str, str]:
    """Why plugins were switched off in the last session in which they were, by name."""
    return dict(_read()["failed"])


def switch(name: str, on: bool) -> None:
    """Remember the user's choice; switching on forgets an old failure."""
    content = _read()
    off = set(content["off"]) - {name} if on else set(content["off"]) | {name}
    failed = {key: value for key, value in content["failed"].items() if key != name}
    _write({"off": sorted(off), "failed": failed})


def remember_failure(name: str, reason: str) -> None:
    """Keep why a session switched a plugin off, for `assistant plugins list`."""
    content = _read()
    content["failed"][name] = reason
    _write(content)


def _read() -> dict:  # type: ignore[type-arg]
    path = switches_file()
    if not path.exists():
        return {"off": [], "failed": {}}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"off": list(content["off"]), "failed": dict(content["failed"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it: it only says which plugins are off") from error


def _write(content: dict) -> None:  # type: ignore[type-arg]
    path = switches_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
