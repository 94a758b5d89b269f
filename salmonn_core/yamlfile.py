"""YAML files that people write: read with the line of every key, and validation errors that name it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from salmonn_core.errors import UserError

Key = tuple[str, ...]
Origins = dict[Key, tuple[Path, int]]


def read_yaml(path: Path, what: str = "this file") -> tuple[dict[str, Any], Origins]:
    """The values of a file, and the file and line of each key.

    Raises:
        UserError: not UTF-8, no YAML, no mapping, or a key that is there twice, with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: no YAML ({error.problem})") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}, line 1: {what} is a list of `key: value` lines")
    return values, dict(_lines(path, node, ()))


def _lines(path: Path, node: yaml.Node, at: Key) -> Iterator[tuple[Key, tuple[Path, int]]]:
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*at, str(number)), (path, item.start_mark.line + 1)
            yield from _lines(path, item, (*at, str(number)))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            raise UserError(f"{path}, line {line}, {'.'.join((*at, name))}: this key is there twice")
        seen.add(name)
        yield (*at, name), (path, line)
        yield from _lines(path, value, (*at, name))


def explain(error: ValidationError, origins: Origins, model: type[BaseModel], whole: str, above: Key = ()) -> str:
    """A line for each mistake: file, line, key, what is wrong, and the nearest good name.

    Args:
        model: what the values were checked with.
        whole: what to call the file as a whole.
        above: where in the file the model's values are.
    """
    first: dict[tuple[int | str, ...], ErrorDetails] = {}  # of each key
    for mistake in error.errors():
        first.setdefault(mistake["loc"], mistake)
    mistakes = list(first.values())
    if any(mistake["type"] == "extra_forbidden" for mistake in mistakes):
        # A key that was mistyped also leaves another one missing: the typing mistake is the one to tell.
        mistakes = [mistake for mistake in mistakes if mistake["type"] != "missing"]
    return "\n".join(_explained(mistake, origins, model, whole, above) for mistake in mistakes)


def _explained(mistake: ErrorDetails, origins: Origins, model: type[BaseModel], whole: str, above: Key) -> str:
    inner = tuple(str(part) for part in mistake["loc"] if part != "[key]")  # pydantic's mark for a key, not its value
    at = (*above, *inner)
    known = next((origins[at[:n]] for n in range(len(at), 0, -1) if at[:n] in origins), None)
    where = f"{known[0]}, line {known[1]}, " if known else ""
    key = ".".join(at) or whole
    if mistake["type"] == "extra_forbidden":
        return f"{where}{key}: no such key{nearest(at[-1], _keys_at(model, inner[:-1]))}"
    if mistake["type"] in ("tuple_type", "list_type"):
        return f"{where}{key}: input should be a list, like [{mistake['input']}]"
    reason = mistake["msg"].removeprefix("Value error, ")
    return f"{where}{key}: {reason[0].lower()}{reason[1:]}"


def _keys_at(model: Any, at: Key) -> list[str]:
    for part in at:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []  # inside a list or a union: no one set of names to compare with
        model = fields[part].annotation
    return list(getattr(model, "model_fields", {}))


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing if no known name is close."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
