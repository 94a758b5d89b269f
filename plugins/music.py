"""Describes music: the kind, the instruments, the tempo."""

from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import Prompt, Skill, hookimpl


class Settings(BaseModel, extra="forbid", frozen=True):
    about: tuple[str, ...] = Field((), description="what to speak of, for example [instruments, tempo, mood]")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="music",
            description="Describes music: the kind, the instruments, the tempo",
            instruction="Describe the music.",
            kinds=frozenset({"sound"}),
            settings={"max_new_tokens": 60, "repetition_penalty": 1.1, "names_first": True},
            prompts={"de": "Beschreibe die Musik."},
        )
    ]


@hookimpl
def shape_prompt(skill: Skill, prompt: Prompt, settings: Settings) -> Prompt | None:
    if skill.name != "music" or not settings.about:
        return None
    return replace(prompt, instruction=f"Tell me about the {' and the '.join(settings.about)}.")
