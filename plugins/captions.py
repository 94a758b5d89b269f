"""Live captions: what is said as text, what else is heard in brackets, for people who cannot hear it."""

import re
from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import READING_WEIGHT, AudioWindow, Prompt, Response, Skill, hookimpl

from .transcribe import as_long_as_speech

LEADING_ON = frozenset(["a", "an", "the", "its", "of", "on", "in", "at", "and", "with", "by", "to", "for", "from"])


class Settings(BaseModel, extra="forbid", frozen=True):
    brackets: str = Field("[]", min_length=2, max_length=2, description="what stands around a sound")
    most_words: int = Field(10, ge=1, description="of a sound's tag")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="captions",
            description="Writes down what is said, and sounds in brackets: [dog barking]",
            instruction="Transcribe the speech.",
            settings={"max_new_tokens": 180, "reading_weight": READING_WEIGHT},
            verbatim=True,
        )
    ]


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt) -> Prompt | None:
    if skill.name != "captions":
        return None
    if window.kind == "speech":
        return as_long_as_speech(prompt, window)
    return replace(
        prompt,
        instruction="Describe the sound.",
        settings=replace(prompt.settings, max_new_tokens=40, reading_weight=0.0, names_first=True),
    )


@hookimpl
def consume_response(window: AudioWindow, skill: Skill, response: Response, settings: Settings) -> Response | None:
    if skill.name != "captions" or window.kind == "speech" or not response.text:
        return None
    return replace(response, text=settings.brackets[0] + tag(response.text, settings.most_words) + settings.brackets[1])


def tag(description: str, most_words: int) -> str:
    """A description as a tag: "A dog is barking." becomes "dog barking"."""
    first = re.split(r"[.!?;]", description.strip(), maxsplit=1)[0].lower()
    short = re.sub(r"^(there (is|are) )?((a|an|the|some) )?", "", first)
    words = re.sub(r" (is|are) ", " ", short).split()
    kept = words[:most_words]
    while kept and len(kept) < len(words) and kept[-1] in LEADING_ON:
        kept.pop()  # "plays a fast beat on its": a tag that is cut should not sound so
    return " ".join(kept).rstrip(",")
