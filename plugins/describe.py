"""Says what a sound is; in brackets if the profile wants captions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assistant import AudioWindow, Response, Skill, hookimpl

_in_brackets = False


@hookimpl
def register_skills(settings: Mapping[str, Any]) -> list[Skill]:
    global _in_brackets  # noqa: PLW0603 - one session, one setting
    _in_brackets = bool(settings.get("brackets", False))
    return [
        Skill(
            name="describe",
            description="Says in a sentence what can be heard",
            instruction="Describe the sound.",
            settings={"max_new_tokens": 40},
        )
    ]


@hookimpl
def consume_response(window: AudioWindow, skill: Skill, response: Response) -> Response | None:
    if skill.name != "describe" or not _in_brackets:
        return None
    return replace(response, text=f"[{response.text.rstrip('.').lower()}]")
