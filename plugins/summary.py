"""Sums up the last minutes, on demand or every few minutes; or names the words that matter."""

from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import Ask, AudioWindow, Prompt, Response, Skill, State, Turn, hookimpl


class Settings(BaseModel, extra="forbid", frozen=True):
    minutes: float = Field(5.0, gt=0, description="how far the summary looks back")
    sentences: int = Field(2, ge=1, le=10)
    most_characters: int = Field(3000, ge=100, description="of what was said; the latest counts")
    sources: tuple[str, ...] = Field(("transcribe", "captions"), description="skills whose answers were what was said")
    every_minutes: float = Field(0.0, ge=0, description="sum up so often by itself; 0 only when asked")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills(settings: Settings) -> list[Skill]:
    asked = f"Sum up all of what was said in at most {settings.sentences} sentences."
    return [
        Skill("summary", "Sums up the last minutes", asked, settings={"max_new_tokens": 40 * settings.sentences}),
        Skill(
            "keywords", "Names the words that matter", "Give the keywords of what is said.", kinds=frozenset({"speech"})
        ),
    ]


@hookimpl
def shape_prompt(
    window: AudioWindow, skill: Skill, prompt: Prompt, turns: tuple[Turn, ...], settings: Settings
) -> Prompt | None:
    """What was said stands before the sound of the last window."""
    if skill.name != "summary":
        return None
    since = window.start_s - 60.0 * settings.minutes
    said = " ".join(turn.text for turn in turns if turn.skill in settings.sources and turn.start_s >= since)
    return replace(prompt, before=f"This was said: {said[-settings.most_characters :]}") if said else None


@hookimpl
def consume_response(
    window: AudioWindow, skill: Skill, response: Response, settings: Settings, state: State
) -> Response | None:
    """When it is time, the summary follows the answer."""
    if not settings.every_minutes or skill.name not in settings.sources:
        return None
    if window.start_s - state.setdefault("summed_up_at", window.start_s) < 60.0 * settings.every_minutes:
        return None
    state["summed_up_at"] = window.start_s
    return replace(response, actions=(*response.actions, Ask(skill="summary")))
