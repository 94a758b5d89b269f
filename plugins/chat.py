"""A conversation: earlier answers, and if wanted the sound of earlier windows, stand before the next question."""

from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import Prompt, Skill, Turn, hookimpl


class Settings(BaseModel, extra="forbid", frozen=True):
    remember: int = Field(4, ge=0, le=50, description="earlier turns that the model reads again, as text")
    listen_again: int = Field(0, ge=0, le=8, description="earlier windows that it hears again, as far as 30 s allow")
    persona: str = Field("", max_length=500, description='for example "You are a patient teacher."')


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="chat",
            description="Talks with you and remembers what was said",
            instruction="Reply to what was asked.",
            settings={"max_new_tokens": 80, "repetition_penalty": 1.15},
            prompts={"de": "Antworte auf das, was gefragt wurde."},
        )
    ]


@hookimpl
def shape_prompt(skill: Skill, prompt: Prompt, turns: tuple[Turn, ...], settings: Settings) -> Prompt | None:
    if skill.name != "chat":
        return None
    talked = [turn for turn in turns if turn.skill == "chat"]
    read = talked[max(0, len(talked) - settings.remember) :]
    heard = talked[max(0, len(talked) - settings.listen_again) :]
    return replace(
        prompt,
        before=settings.persona,
        history=tuple((turn.instruction, turn.text) for turn in read),
        windows=tuple(turn.window_id for turn in heard),
    )
