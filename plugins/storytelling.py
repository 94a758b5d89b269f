"""Tells a short story about what is heard: words, sounds or music."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assistant import AudioWindow, Prompt, Response, Skill, UserError, hookimpl

TOKENS_PER_SENTENCE = 30
INSTRUCTION = "Tell a short story about what you hear."
_sentences = 4


@hookimpl
def register_skills(settings: Mapping[str, Any]) -> list[Skill]:
    global _sentences  # noqa: PLW0603 - one session, one setting
    _sentences = settings.get("sentences", 4)
    if not isinstance(_sentences, int) or _sentences < 1:
        raise UserError(f"plugins.storytelling.sentences must be a whole number from 1, not {_sentences!r}")
    return [
        Skill(
            name="storytelling",
            description="Tells a short story about what is heard",
            instruction=INSTRUCTION,
            settings={"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.15},
        )
    ]


@hookimpl
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt) -> Prompt | None:
    if skill.name != "storytelling":
        return None
    limit = min(prompt.settings.max_new_tokens * 4, _sentences * TOKENS_PER_SENTENCE)
    return replace(prompt, settings=replace(prompt.settings, max_new_tokens=limit))


@hookimpl
def consume_response(window: AudioWindow, skill: Skill, response: Response) -> Response | None:
    """A story ends with a whole sentence, even if the tokens ran out in the middle of one."""
    if skill.name != "storytelling":
        return None
    whole = re.findall(r"[^.!?]+[.!?]+[\"']?", response.text)
    return replace(response, text="".join(whole[:_sentences]).strip()) if whole else None
