"""Says what a sound is, or what the last seconds sounded like."""

from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import AudioWindow, Prompt, Skill, State, hookimpl

REMEMBERED = 16  # windows; the assistant keeps no more of them


class Settings(BaseModel, extra="forbid", frozen=True):
    seconds: float = Field(15.0, gt=0, le=30, description="how far `what-was-that` looks back")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    described = Skill(
        name="describe",
        description="Says in a sentence what can be heard",
        instruction="Describe the sound.",
        settings={"max_new_tokens": 40, "names_first": True},
    )
    return [described, replace(described, name="what-was-that", description="Describes the last seconds")]


@hookimpl
def window_heard(window: AudioWindow, state: State) -> None:
    """Windows that nobody answers are remembered, too. The same window may be heard twice, longer."""
    ends = state.setdefault("ends", {})
    ends[window.id] = window.start_s + window.duration_s
    for old in sorted(ends)[:-REMEMBERED]:
        del ends[old]


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt, settings: Settings, state: State) -> Prompt | None:
    if skill.name != "what-was-that":
        return None
    since = window.start_s + window.duration_s - settings.seconds
    recent = (id for id, end_s in state.get("ends", {}).items() if id < window.id and end_s > since)
    return replace(prompt, windows=tuple(recent))
