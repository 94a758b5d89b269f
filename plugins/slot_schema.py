"""What a record looks like: JSON Schema (an object of plain values), or a short list of fields and types."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from assistant import WORDS_HERE, said_here

from .slot_heard import heard
from .slot_values import FORMATS, integer, number

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand point minus and"
)
SPOKEN_NUMBER = rf'"({WORDS.replace(" ", "|")})( ({WORDS.replace(" ", "|")})){{0,6}}"'
PATTERNS = {
    "string": r'"[^"\\\n]{1,40}"',
    "integer": rf"(-?\d{{1,6}}|{SPOKEN_NUMBER})",
    "number": rf"(-?\d{{1,6}}(\.\d{{1,3}})?|{SPOKEN_NUMBER})",
    "boolean": r"(true|false)",
}
ANY_TEXT = r'"[^"\\\n]+"'  # a quote of what was said may be longer than a text that the model makes up
SHORT = {"text": "string"} | {name: name for name in PATTERNS}  # types in the short list; formats are there, too


class Property(BaseModel):
    """One field. `description` is what is asked when a required one is missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["string", "integer", "number", "boolean"] = "string"
    enum: tuple[str, ...] = ()
    format: Literal["", "date", "time", "date-time", "duration"] = ""
    minimum: float | None = None
    maximum: float | None = None
    title: str = ""
    description: str = ""

    def values(self, text: str) -> str:
        """A regular expression of the values that the model may say, given that of a free text."""
        patterns = PATTERNS | {"string": text}
        return "|".join(re.escape(json.dumps(value)) for value in self.enum) or patterns[self.type]

    def value(self, said: Any) -> Any:
        """The typed value, or None if what was said is none."""
        if self.format and said is not None:
            return FORMATS[self.format](said)
        if self.type not in {"integer", "number"} or said is None:
            return said
        value = (integer if self.type == "integer" else number)(str(said))
        low, high = self.minimum, self.maximum
        outside = value is not None and ((low is not None and value < low) or (high is not None and value > high))
        return None if outside else value


class Schema(BaseModel):
    """Fields in the order in which they are asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    type: Literal["object"] = "object"
    title: str = ""
    properties: dict[str, Property] = Field(min_length=1)
    required: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_short_list(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or isinstance(given.get("properties"), Mapping):
            return given
        return {"properties": {name: _short(name, kind) for name, kind in given.items()}}

    @model_validator(mode="after")
    def _required_exist(self) -> Schema:
        for name in self.required:
            if name not in self.properties:
                raise ValueError(f"required: {name!r} is no property; there are: {', '.join(self.properties)}")
        return self

    @property
    def instruction(self) -> str:
        return f"Fill in the fields from the speech as JSON, null if not said. Fields: {'; '.join(self.properties)}."

    @property
    def pattern(self) -> str:
        """A regular expression that exactly the records of this schema match."""
        return self._records(PATTERNS["string"])

    @property
    def quoting(self) -> str:
        """The same with texts that are quotes of what was written down first, and the allowed values that were said."""
        return self._records(f'"{WORDS_HERE}"', self.allowed)

    @property
    def allowed(self) -> dict[str, tuple[str, ...]]:
        """The values of the fields that have a list of them."""
        return {name: field.enum for name, field in self.properties.items() if field.enum}

    def _records(self, text: str, said: Container[str] = ()) -> str:
        values = (
            (name, said_here(name) if name in said else f"({field.values(text)}|null)")
            for name, field in self.properties.items()
        )
        return r"\{" + ", ".join(f'"{re.escape(name)}": {value}' for name, value in values) + r"\}"

    def only(self, names: Iterable[str]) -> Schema:
        """The part of it with these fields."""
        return Schema(properties={name: self.properties[name] for name in names})

    def record(self, text: str, transcript: str | None = None) -> dict[str, Any] | None:
        """The typed record, or None if the answer was cut off before it was whole.

        Args:
            transcript: what was heard; values that are not in it do not count.
        """
        if not re.fullmatch(self._records(ANY_TEXT), text):
            return None
        said = json.loads(text)
        if transcript is not None:
            said = heard(said, self.properties, transcript)
        return {name: field.value(said[name]) for name, field in self.properties.items()}

    def missing(self, record: Mapping[str, Any]) -> list[str]:
        """The required fields without a value."""
        return [name for name in self.required if record.get(name) is None]


def _short(name: str, kind: Any) -> Any:
    if isinstance(kind, list) and kind:
        return {"enum": [str(value) for value in kind]}
    if isinstance(kind, str) and kind in FORMATS:
        return {"format": kind}
    if isinstance(kind, str) and kind in SHORT:
        return {"type": SHORT[kind]}
    raise ValueError(f"{name}: {kind!r} is no type; use {', '.join([*SHORT, *FORMATS])} or a list of values")
