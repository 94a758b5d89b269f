"""What each hook may return. Checked in the plugin's own thread, so that a lie costs the plugin's time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel

from assistant.actions import Ask, Notify, Record, Show, Write
from assistant.hookspecs import Stop
from assistant.records import Command, Panel, Prompt, Response, Skill

LONGEST_TEXT = 100_000  # characters
MOST_ITEMS = 200
Budget = Literal["setup", "audio", "response"]
Check = Callable[[Any], Any]


class WrongResultError(Exception):
    """A hook returned what it may not; the message says what it may."""


@dataclass(frozen=True)
class Hook:
    """One hook: its budget, and the check of what an implementation returned (never called with None)."""

    budget: Budget
    check: Check


def _nothing(value: Any) -> None:
    raise WrongResultError(f"must return None, not {_kind(value)}")


def _many(kind: type[Any], check: Check = lambda item: item) -> Check:
    def checked(value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise WrongResultError(f"must return {kind.__name__}s, not {_kind(value)}")
        items = tuple(islice(value, MOST_ITEMS + 1))
        if len(items) > MOST_ITEMS:
            raise WrongResultError(f"returned more than {MOST_ITEMS} {kind.__name__}s")
        for item in items:
            if not isinstance(item, kind):
                raise WrongResultError(f"must return {kind.__name__}s, not {_kind(item)}")
            check(item)
        return items

    return checked


def _skill(skill: Skill) -> None:
    for field in ("name", "description", "instruction"):
        _text(getattr(skill, field), f"Skill.{field}")


def _command(command: Command) -> None:
    _text(command.name, "Command.name")
    if not callable(command.run):
        raise WrongResultError("Command.run must be a function")


def _panel(panel: Panel) -> None:
    for text in (panel.title, *(cell for row in panel.rows for cell in row)):
        _text(text, "Panel")


def _model(value: Any) -> type[BaseModel]:
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value
    raise WrongResultError(f"must return a subclass of pydantic.BaseModel, not {_kind(value)}")


def _claim(value: Any) -> tuple[str, float]:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        score = value[1]
        if isinstance(score, (int, float)) and 0.0 <= score <= 1.0:
            return value[0], float(score)
    raise WrongResultError(f"must return (skill name, score from 0 to 1) or None, not {_shown(value)}")


def _prompt(value: Any) -> Prompt:
    if not isinstance(value, Prompt):
        raise WrongResultError(f"must return Prompt or None, not {_kind(value)}")
    _text(value.instruction, "Prompt.instruction")
    _text(value.before, "Prompt.before")
    return value


def _token(value: Any) -> str | Stop:
    if isinstance(value, Stop):
        return value
    return _text(value, "a token") if isinstance(value, str) else _refuse(value, "str, STOP or None")


def _response(value: Any) -> Response:
    if not isinstance(value, Response):
        _refuse(value, "Response or None")
    _text(value.text, "Response.text")
    for action in value.actions:
        _action(action)
    if value.slots is not None:
        _json(value.slots, "Response.slots")
    return value


def _action(action: Any) -> None:
    if isinstance(action, Record):
        _text(action.name, "Record.name")
        _json(action.values, "Record.values")
    elif isinstance(action, (Show, Notify, Write, Ask)):
        for name, value in vars(action).items():
            if value is not None:
                _text(value, f"{type(action).__name__}.{name}")
    else:
        _refuse(action, "actions of assistant.actions")


def _json(value: Any, where: str) -> None:
    try:
        text = json.dumps(dict(value))
    except (TypeError, ValueError) as error:
        raise WrongResultError(f"{where} must be plain JSON ({error})") from error
    _text(text, where)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise WrongResultError(f"{where} must be str, not {_kind(value)}")
    if len(value) > LONGEST_TEXT:
        raise WrongResultError(f"{where} has {len(value):,} characters; at most {LONGEST_TEXT:,} are taken")
    return value


def _refuse(value: Any, wanted: str) -> Any:
    raise WrongResultError(f"must return {wanted}, not {_kind(value)}")


def _kind(value: Any) -> str:
    return type(value).__name__


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float, tuple)) and len(repr(value)) < 80 else _kind(value)


HOOKS: dict[str, Hook] = {
    "settings_model": Hook("setup", _model),
    "register_skills": Hook("setup", _many(Skill, _skill)),
    "register_commands": Hook("setup", _many(Command, _command)),
    "session_started": Hook("setup", _nothing),
    "profile_changed": Hook("setup", _nothing),
    "window_heard": Hook("audio", _nothing),
    "claim_window": Hook("audio", _claim),
    "shape_prompt": Hook("audio", _prompt),
    "token_generated": Hook("audio", _token),
    "consume_response": Hook("response", _response),
    "panels": Hook("response", _many(Panel, _panel)),
    "error_raised": Hook("response", _nothing),
    "session_stopped": Hook("response", _nothing),
}
