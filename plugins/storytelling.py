"""Tells a short story about what is heard: words, sounds or music. "Go on" gets its next part."""

import re
from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import AudioWindow, Prompt, Response, Skill, Turn, hookimpl

TOKENS_PER_SENTENCE = 30


class Settings(BaseModel, extra="forbid", frozen=True):
    sentences: int = Field(4, ge=1, le=40)
    style: str = Field("", max_length=80, description='for example "a fairy tale"')
    language: str = Field("", max_length=40, description='for example "German"; the model must speak it')
    continue_for: int = Field(1, ge=0, description="earlier parts that stand before the next one")
    go_on_s: float = Field(3.0, ge=0, description='words this short, pauses included, after a story mean "go on"')


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="storytelling",
            description="Tells a short story about what is heard",
            instruction="Tell a short story about what you hear.",
            settings={
                "temperature": 0.7,
                "top_p": 0.9,
                "repetition_penalty": 1.15,
                "lora_scale": 0.5,  # less of what the adapter learned, more of what the LLM can tell (paper, 4.2)
                "names_first": True,
                "heard_first": True,
                "min_new_tokens": TOKENS_PER_SENTENCE,
            },
            prompts={"de": "Erzähle eine kurze Geschichte über das, was du hörst."},
        )
    ]


@hookimpl
def shape_prompt(
    window: AudioWindow, skill: Skill, prompt: Prompt, turns: tuple[Turn, ...], settings: Settings
) -> Prompt | None:
    if skill.name != "storytelling":
        return None
    told = [turn for turn in turns if turn.skill == "storytelling"]
    history = tuple((turn.instruction, turn.text) for turn in told[max(0, len(told) - settings.continue_for) :])
    go_on = told and window.kind == "speech" and window.duration_s <= settings.go_on_s
    wanted = ["Go on with the story." if go_on else prompt.instruction]
    wanted += [f"Tell it as {settings.style}."] if settings.style else []
    wanted += [f"Tell it in {settings.language}."] if settings.language else []
    limit = settings.sentences * TOKENS_PER_SENTENCE
    least = min(prompt.settings.min_new_tokens, limit // 2)
    # The next part goes on, and a story in another language does not begin in English.
    elsewhere = settings.language or prompt.instruction in skill.prompts.values()
    begun = prompt.settings.heard_first and not (go_on or elsewhere)
    options = replace(prompt.settings, max_new_tokens=limit, min_new_tokens=least, heard_first=begun)
    return replace(prompt, instruction=" ".join(wanted), settings=options, history=history)


@hookimpl
def consume_response(skill: Skill, response: Response, settings: Settings) -> Response | None:
    """A story ends with a whole sentence, even if the tokens ran out in the middle of one."""
    if skill.name != "storytelling":
        return None
    whole = re.findall(r"[^.!?]+[.!?]+[\"']?", response.text)
    return replace(response, text="".join(whole[: settings.sentences]).strip()) if whole else None
