"""Writes down what is said."""

from dataclasses import replace

from assistant import AudioWindow, Prompt, Skill, hookimpl

# Nobody says more. A small model that begins to repeat itself is stopped here: on real speech the word error rate of
# salmonn-tiny is 0.45 with this limit and 0.51 without.
TOKENS, TOKENS_PER_S = 8, 6


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="transcribe",
            description="Writes down what is said",
            instruction="Transcribe the speech.",
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 180, "repetition_penalty": 1.05},
            verbatim=True,
        )
    ]


def as_long_as_speech(prompt: Prompt, window: AudioWindow) -> Prompt:
    """No more tokens than can have been said in the window."""
    said = round(TOKENS + TOKENS_PER_S * window.duration_s)
    return replace(prompt, settings=replace(prompt.settings, max_new_tokens=min(said, prompt.settings.max_new_tokens)))


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt) -> Prompt | None:
    return as_long_as_speech(prompt, window) if skill.name == "transcribe" else None
