"""Fills the profile's schema from what is said, asks for what is missing, and emits a typed record.

The window is first written down, then the record is generated under a regular expression made from the schema and the
words, so that it is valid by construction. What is left is to leave out what was not heard, and to turn words into
values. The record goes out as an event, and if the profile says so to a file or a webhook.
"""

import json
from dataclasses import replace
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from pydantic import BaseModel, Field, model_validator

from assistant import AudioWindow, Prompt, Record, Response, Show, Skill, State, Write, hookimpl

from .slot_schema import Schema

DEFAULT_SCHEMA = Schema.model_validate({"date": "text", "time": "text", "person": "text", "place name": "text"})
POST_S = 1.5  # of the two seconds that a plugin has after an answer


class Settings(BaseModel, extra="forbid", frozen=True):
    fields: Schema = Field(DEFAULT_SCHEMA, alias="schema", description="JSON Schema, or fields and their types")
    name: str = Field("record", description="of the record in the event stream")
    grounded: bool = Field(True, description="a value counts only if it is in what the model writes down first")
    wait_s: float = Field(20.0, gt=0, description="how long a question for a missing value stays open")
    jsonl: str = Field("", description="a file that each whole record is appended to, as a line of JSON")
    webhook: str = Field("", description="an address that each whole record is posted to")
    hosts: tuple[str, ...] = Field(("localhost", "127.0.0.1", "::1"), description="where it may be")

    @model_validator(mode="after")
    def _stays_here(self) -> Self:
        address = urlsplit(self.webhook)
        if self.webhook and (address.scheme not in {"http", "https"} or address.hostname not in self.hosts):
            raise ValueError(f"webhook: {self.webhook} is not on {', '.join(self.hosts)}; add its host to `hosts`")
        return self


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills(settings: Settings) -> list[Skill]:
    schema = settings.fields
    return [
        Skill(
            name="slot-filling",
            description="Fills the profile's schema from the speech and emits a typed record",
            instruction=schema.instruction,
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 40 + 50 * len(schema.properties)},
        )
    ]


@hookimpl
def session_started(settings: Settings) -> None:
    """Reading the first date takes a second: here, and not in the time of an answer."""
    for field in settings.fields.properties.values():
        field.value("today")


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt, settings: Settings, state: State) -> Prompt | None:
    if skill.name != "slot-filling":
        return None
    schema, _ = _asked(window, settings, state)
    options = replace(prompt.settings, pattern=schema.pattern)
    if settings.grounded:
        options = replace(options, pattern=schema.quoting, spot=schema.allowed, words_first=True)
    return replace(prompt, instruction=schema.instruction, settings=options)


@hookimpl
def consume_response(
    window: AudioWindow, skill: Skill, response: Response, settings: Settings, state: State
) -> Response | None:
    if skill.name != "slot-filling":
        return None
    schema, pending = _asked(window, settings, state)
    said = schema.record(response.text, response.words if settings.grounded else None)
    if said is None:
        raise ValueError(f"the record was cut off after {response.tokens} tokens: {response.text[-40:]!r}")
    record = pending | said
    state.pop("pending", None)
    missing = settings.fields.missing(record)
    if not missing:
        return replace(response, text=json.dumps(record), slots=record, actions=tuple(_outputs(record, settings)))
    if any(value is not None for value in said.values()):  # asks on while there is something to go on with
        state["pending"], state["until_s"] = record, window.start_s + window.duration_s + settings.wait_s
        question = settings.fields.properties[missing[0]].description or f"What is the {missing[0]}?"
        response = replace(response, actions=(Show(question),))
    return replace(response, text=json.dumps(record), slots=record)


def _asked(window: AudioWindow, settings: Settings, state: State) -> tuple[Schema, dict[str, Any]]:
    """What this window is asked for, and the record that waits for it: only the missing part of one that waits."""
    pending = state.get("pending")
    if pending is None or window.start_s > state["until_s"]:
        return settings.fields, {}
    return settings.fields.only(settings.fields.missing(pending)), pending


def _outputs(record: dict[str, Any], settings: Settings) -> list[Record | Write | Show]:
    done: list[Record | Write | Show] = [Record(settings.name, record)]
    if settings.jsonl:
        done.append(Write(settings.jsonl, json.dumps(record) + "\n"))
    if settings.webhook:
        try:
            _post(settings.webhook, record)
        except (URLError, OSError) as error:
            done.append(Show(f"{settings.webhook} did not take the record: {error}"))
    return done


class _StayHere(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The host that the profile allows may not send the record on to another."""


def _post(address: str, record: dict[str, Any]) -> None:
    request = Request(address, json.dumps(record).encode(), {"Content-Type": "application/json"})
    build_opener(ProxyHandler({}), _StayHere).open(request, timeout=POST_S).close()
