"""Sums up the last minutes, on demand or every few minutes; or names the words that matter."""

import re
from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import Ask, AudioWindow, Prompt, Response, Skill, State, Turn, hookimpl

COMMON = 5.3  # a word in 5,000, by its zipf frequency: "want", "today" and what is commoner say little


class Settings(BaseModel, extra="forbid", frozen=True):
    minutes: float = Field(5.0, gt=0, description="how far the summary looks back")
    sentences: int = Field(2, ge=1, le=10)
    most_characters: int = Field(3000, ge=100, description="of what was said; the latest counts")
    sources: tuple[str, ...] = Field(("transcribe", "captions"), description="skills whose answers were what was said")
    every_minutes: float = Field(0.0, ge=0, description="sum up so often by itself; 0 only when asked")
    keywords: int = Field(5, ge=1, le=50, description="at most so many words")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills(settings: Settings) -> list[Skill]:
    asked = f"Sum up all of what was said in at most {settings.sentences} sentences."
    return [
        Skill("summary", "Sums up the last minutes", asked, settings={"max_new_tokens": 40 * settings.sentences}),
        Skill(
            "keywords",
            "Names the words that matter",
            "Give the keywords of what is said.",
            kinds=frozenset({"speech"}),
            settings={"words_first": True},
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
    """Keywords become a list; and when it is time, the summary follows the answer."""
    if skill.name == "keywords" and "," not in response.text:  # no list: a small model just says the words again
        return replace(response, text=", ".join(rarest(response.words, settings.keywords)) or response.text)
    if not settings.every_minutes or skill.name not in settings.sources:
        return None
    if window.start_s - state.setdefault("summed_up_at", window.start_s) < 60.0 * settings.every_minutes:
        return None
    state["summed_up_at"] = window.start_s
    return replace(response, actions=(*response.actions, Ask(skill="summary")))


def rarest(said: str, most: int) -> list[str]:
    """The words that are used least elsewhere, in the order in which they were said."""
    from wordfreq import zipf_frequency  # 0.3 s

    rarity = {word: zipf_frequency(word, "en") for word in re.findall(r"[\w'-]+", said.lower())}
    chosen = sorted((word for word in rarity if rarity[word] < COMMON), key=lambda word: rarity[word])[:most]
    return [word for word in rarity if word in chosen]
