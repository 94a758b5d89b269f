"""Fills a schema given in the profile from what is said, and emits a typed record that always fits it.

The answer is generated under a regular expression made from the schema, so it is valid by construction;
what is left is to turn the words of a number into a number.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, Field, field_validator

from assistant import Prompt, Response, Skill, hookimpl

Kind = str | tuple[str, ...]  # "text", "integer", "number", "boolean", or the allowed values
PATTERNS = {
    "text": r'"[^"\\\n]{1,40}"',
    "integer": r"-?\d{1,6}",
    "number": r"-?\d{1,6}(\.\d{1,3})?",
    "boolean": r"(true|false)",
}
DEFAULT_SCHEMA: dict[str, Any] = {"date": "text", "time": "text", "person": "text", "place name": "text"}


@dataclass(frozen=True)
class Schema:
    """Field names and kinds, in the order in which they are asked."""

    fields: Mapping[str, Kind]

    @property
    def instruction(self) -> str:
        listed = "; ".join(self.fields)
        return f"Fill in the fields from the speech as JSON, null if not said. Fields: {listed}."

    @property
    def pattern(self) -> str:
        """A regular expression that exactly the valid records match."""
        pairs = (f'"{re.escape(name)}": ({_value_pattern(kind)}|null)' for name, kind in self.fields.items())
        return r"\{" + ", ".join(pairs) + r"\}"

    def record(self, text: str) -> dict[str, Any] | None:
        """The typed record, or None if the answer was cut off before it was whole."""
        if not re.fullmatch(self.pattern, text):
            return None
        values: dict[str, Any] = json.loads(text)
        return values


def _value_pattern(kind: Kind) -> str:
    if isinstance(kind, tuple):
        return "|".join(re.escape(json.dumps(value)) for value in kind)
    return PATTERNS[kind]


class Settings(BaseModel, extra="forbid", frozen=True):
    fields: Mapping[str, Any] = Field(DEFAULT_SCHEMA, alias="schema", min_length=1)
    """Field names with `text`, `integer`, `number`, `boolean` or the list of allowed values."""

    @field_validator("fields")
    @classmethod
    def _known_kinds(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, kind in fields.items():
            if not (isinstance(kind, list) and kind) and not (isinstance(kind, str) and kind in PATTERNS):
                raise ValueError(f"{name}: {kind!r} is no type; use {', '.join(PATTERNS)} or a list of values")
        return fields

    @property
    def schema_(self) -> Schema:
        kinds = {name: tuple(map(str, kind)) if isinstance(kind, list) else kind for name, kind in self.fields.items()}
        return Schema(kinds)


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills(settings: Settings) -> list[Skill]:
    schema = settings.schema_
    return [
        Skill(
            name="slot-filling",
            description="Fills the profile's schema from the speech and emits a typed record",
            instruction=schema.instruction,
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 40 + 50 * len(schema.fields)},
        )
    ]


@hookimpl
def shape_prompt(skill: Skill, prompt: Prompt, settings: Settings) -> Prompt | None:
    if skill.name != "slot-filling":
        return None
    return replace(prompt, settings=replace(prompt.settings, pattern=settings.schema_.pattern))


@hookimpl
def consume_response(skill: Skill, response: Response, settings: Settings) -> Response | None:
    if skill.name != "slot-filling":
        return None
    record = settings.schema_.record(response.text)
    if record is None:
        raise ValueError(f"the record was cut off after {response.tokens} tokens: {response.text[-40:]!r}")
    return replace(response, slots=record)
