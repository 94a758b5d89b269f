"""Says what a sound is; in brackets if the profile wants captions."""

from dataclasses import replace

from pydantic import BaseModel

from assistant import Response, Skill, hookimpl


class Settings(BaseModel, extra="forbid", frozen=True):
    brackets: bool = False
    """Captions for people who cannot hear: [a dog barks]."""


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="describe",
            description="Says in a sentence what can be heard",
            instruction="Describe the sound.",
            settings={"max_new_tokens": 40},
        )
    ]


@hookimpl
def consume_response(skill: Skill, response: Response, settings: Settings) -> Response | None:
    if skill.name != "describe" or not settings.brackets:
        return None
    return replace(response, text=f"[{response.text.rstrip('.').lower()}]")
