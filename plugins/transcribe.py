"""Writes down what is said."""

from dataclasses import replace

from assistant import READING_WEIGHT, AudioWindow, Prompt, Skill, hookimpl, transcript_limit


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="transcribe",
            description="Writes down what is said",
            instruction="Transcribe the speech.",
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 180, "reading_weight": READING_WEIGHT},
            verbatim=True,
        )
    ]


def as_long_as_speech(prompt: Prompt, window: AudioWindow) -> Prompt:
    """No more tokens than can have been said in the window."""
    said = transcript_limit(window.duration_s)
    return replace(prompt, settings=replace(prompt.settings, max_new_tokens=min(said, prompt.settings.max_new_tokens)))


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt) -> Prompt | None:
    return as_long_as_speech(prompt, window) if skill.name == "transcribe" else None
