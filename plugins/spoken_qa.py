"""Answers the question that is asked aloud; if something sounds behind the voice, with regard to that."""

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from assistant import AudioWindow, Prompt, Skill, hookimpl

FRAME = 480  # samples, 30 ms
WITH_BACKGROUND = "Use the background sound to answer what is asked."


class Settings(BaseModel, extra="forbid", frozen=True):
    background: Literal["auto", "always", "never"] = Field("auto", description="whether the background is asked about")
    background_db: float = Field(15.0, gt=0, description="auto: so little below the voice, a background counts")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="spoken-qa",
            description="Answers the spoken question",
            instruction="Answer the spoken question.",
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 80, "repetition_penalty": 1.1, "words_first": True},
        )
    ]


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt, settings: Settings) -> Prompt | None:
    """The co-reasoning prompt of the paper, where there is a background to reason about."""
    if skill.name != "spoken-qa" or settings.background == "never":
        return None
    if settings.background == "auto" and depth_db(window.samples) > settings.background_db:
        return None
    # The words alone would lead away from the sound, which is what the question is about.
    return replace(
        prompt, instruction=WITH_BACKGROUND, settings=replace(prompt.settings, words_first=False, names_first=True)
    )


def depth_db(samples: np.ndarray) -> float:
    """How far the quietest tenth of a window lies below the loudest; pauses between words are that quiet."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return float("inf")
    levels = 10.0 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    return float(np.percentile(levels, 90) - np.percentile(levels, 10))
