"""Translates what is said."""

from pydantic import BaseModel, Field

from assistant import Skill, hookimpl


class Settings(BaseModel, extra="forbid", frozen=True):
    target: str = Field("German", min_length=2, max_length=40, description="the language, in English")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills(settings: Settings) -> list[Skill]:
    return [
        Skill(
            name="translate",
            description=f"Translates what is said into {settings.target}",
            instruction=f"Listen to the speech and translate it into {settings.target}.",
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 120, "repetition_penalty": 1.1},
        )
    ]
