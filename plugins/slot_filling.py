"""Fills a schema given in the profile from what is said, and emits a typed record that always fits it.

The answer is generated under a regular expression made from the schema, so it is valid by construction;
what is left is to turn the words of a number into a number.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assistant import AudioWindow, Prompt, Response, Skill, UserError, hookimpl

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

    @classmethod
    def from_profile(cls, values: Any) -> "Schema":
        """Check what the profile says.

        Raises:
            UserError: a kind that does not exist, with those that do.
        """
        if not isinstance(values, Mapping) or not values:
            raise UserError("plugins.slot-filling.schema must list at least one `field: type`")
        return cls({str(name): cls._kind(str(name), kind) for name, kind in values.items()})

    @staticmethod
    def _kind(name: str, kind: Any) -> Kind:
        if isinstance(kind, list) and kind:
            return tuple(str(value) for value in kind)
        if isinstance(kind, str) and kind in PATTERNS:
            return kind
        known = ", ".join(PATTERNS)
        raise UserError(f"plugins.slot-filling.schema.{name}: {kind!r} is no type; use {known} or a list of values")

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


_schema = Schema(DEFAULT_SCHEMA)


@hookimpl
def register_skills(settings: Mapping[str, Any]) -> list[Skill]:
    global _schema  # noqa: PLW0603 - one session, one schema
    _schema = Schema.from_profile(settings.get("schema", DEFAULT_SCHEMA))
    return [
        Skill(
            name="slot-filling",
            description="Fills the profile's schema from the speech and emits a typed record",
            instruction=_schema.instruction,
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 40 + 50 * len(_schema.fields)},
        )
    ]


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt) -> Prompt | None:
    if skill.name != "slot-filling":
        return None
    return replace(prompt, settings=replace(prompt.settings, pattern=_schema.pattern))


@hookimpl
def consume_response(window: AudioWindow, skill: Skill, response: Response) -> Response | None:
    if skill.name != "slot-filling":
        return None
    record = _schema.record(response.text)
    if record is None:
        raise ValueError(f"the record was cut off after {response.tokens} tokens: {response.text[-40:]!r}")
    return replace(response, slots=record)
