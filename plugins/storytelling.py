"""Tells a short story about what is heard: words, sounds or music. The next window goes on where it ended."""

import re
from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import Prompt, Response, Skill, Turn, hookimpl

TOKENS_PER_SENTENCE = 30


class Settings(BaseModel, extra="forbid", frozen=True):
    sentences: int = Field(4, ge=1, le=40)
    style: str = Field("", max_length=80, description='for example "a fairy tale"')
    continue_for: int = Field(1, ge=0, description="earlier parts that stand before the next one")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills(settings: Settings) -> list[Skill]:
    style = f" Tell it as {settings.style}." if settings.style else ""
    return [
        Skill(
            name="storytelling",
            description="Tells a short story about what is heard",
            instruction=f"Tell a short story about what you hear.{style}",
            settings={"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.15},
            prompts={"de": "Erzähle eine kurze Geschichte über das, was du hörst."},
        )
    ]


@hookimpl
def shape_prompt(skill: Skill, prompt: Prompt, turns: tuple[Turn, ...], settings: Settings) -> Prompt | None:
    if skill.name != "storytelling":
        return None
    limit = min(prompt.settings.max_new_tokens * 4, settings.sentences * TOKENS_PER_SENTENCE)
    told = [turn for turn in turns if turn.skill == "storytelling"][-settings.continue_for :]
    history = tuple((turn.instruction, turn.text) for turn in told) if settings.continue_for else ()
    return replace(prompt, settings=replace(prompt.settings, max_new_tokens=limit), history=history)


@hookimpl
def consume_response(skill: Skill, response: Response, settings: Settings) -> Response | None:
    """A story ends with a whole sentence, even if the tokens ran out in the middle of one."""
    if skill.name != "storytelling":
        return None
    whole = re.findall(r"[^.!?]+[.!?]+[\"']?", response.text)
    return replace(response, text="".join(whole[: settings.sentences]).strip()) if whole else None
