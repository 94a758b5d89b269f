"""Answers only after a phrase, or a sound such as a clap. Until then windows are written down and forgotten."""

import re
from dataclasses import replace
from difflib import SequenceMatcher

from pydantic import BaseModel, Field

from assistant import Ask, AudioWindow, Panel, Prompt, Response, Show, Skill, State, hookimpl


class Settings(BaseModel, extra="forbid", frozen=True):
    phrases: tuple[str, ...] = Field((), description="for example [hey computer]; nothing wakes without one")
    sounds: tuple[str, ...] = Field((), description="words in the description of a sound that wakes, too")
    open_s: float = Field(20.0, gt=0, description="for so long everything is answered")
    likeness: float = Field(0.8, gt=0, le=1, description="1 takes only the exact phrase")
    answer: str = Field("spoken-qa", description="the skill for what is said in one breath with the phrase")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    quiet = {"max_new_tokens": 60}
    return [Skill("wake", "Waits for the wake phrase", "Transcribe the speech.", settings=quiet)]


@hookimpl
def claim_window(window: AudioWindow, settings: Settings, state: State) -> tuple[str, float] | None:
    asleep = window.start_s > state.get("open_until", float("-inf"))
    return ("wake", 1.0) if asleep and (settings.phrases or settings.sounds) else None


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt, state: State) -> Prompt | None:
    state["heard"] = ""
    if skill.name != "wake" or window.kind == "speech":
        return None
    return replace(prompt, instruction="Describe the sound.")


@hookimpl
def token_generated(skill: Skill, text: str, state: State) -> str | None:
    """Nobody reads along while the assistant waits."""
    if skill.name != "wake":
        return None
    state["heard"] = state.get("heard", "") + text
    return ""


@hookimpl
def consume_response(
    window: AudioWindow, skill: Skill, response: Response, settings: Settings, state: State
) -> Response | None:
    if skill.name != "wake":
        return None
    heard = re.findall(r"[\w']+", state.pop("heard", "").lower())
    rest = after_phrase(heard, settings) if window.kind == "speech" else _after_sound(heard, settings)
    if rest is None:
        return None
    state["open_until"] = window.start_s + window.duration_s + settings.open_s
    return replace(response, actions=(Ask(skill=settings.answer) if rest else Show("I am listening."),))


@hookimpl
def panels(settings: Settings) -> list[Panel]:
    return [Panel("Wake phrase", tuple((phrase,) for phrase in settings.phrases))] if settings.phrases else []


def after_phrase(heard: list[str], settings: Settings) -> list[str] | None:
    """The words after the phrase, or None if it was not said; a model hears it a little differently each time."""
    for phrase in settings.phrases:
        length = len(phrase.split())
        for at in range(len(heard) - length + 1):
            said = " ".join(heard[at : at + length])
            if SequenceMatcher(None, said, phrase.lower()).ratio() >= settings.likeness:
                return heard[at + length :]
    return None


def _after_sound(heard: list[str], settings: Settings) -> list[str] | None:
    return [] if any(word.startswith(tuple(settings.sounds)) for word in heard) else None
