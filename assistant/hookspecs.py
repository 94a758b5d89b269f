"""The whole contract between the assistant and its plugins, on one screen.

The host calls each plugin alone, one after the other, and folds what they return as stated here. A
plugin that raises is named and skipped; after three failures it is switched off for the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from assistant.records import AudioWindow, Prompt, Response, Skill

PROJECT = "assistant"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_skills(settings: Mapping[str, Any]) -> Iterable[Skill]:  # type: ignore[empty-body]
    """Fires at start and when the profile changes. All skills returned are offered; a name twice is an error.

    `settings` is this plugin's own part of the profile (`plugins: NAME: ...`).
    """


@hookspec
def claim_window(window: AudioWindow) -> tuple[str, float] | None:
    """Fires when a window has ended, before anything is asked. Return (skill name, score from 0 to 1).

    The highest score wins; if nobody claims, the profile's skill for that kind of window answers.
    """


@hookspec
def shape_prompt(window: AudioWindow, skill: Skill, prompt: Prompt) -> Prompt | None:
    """Fires once a turn, before the model runs. Return a changed prompt or None; each sees the last one's result."""


@hookspec
def token_generated(window: AudioWindow, skill: Skill, text: str) -> None:
    """Fires for each piece of the answer while it streams."""


@hookspec
def consume_response(window: AudioWindow, skill: Skill, response: Response) -> Response | None:
    """Fires when the answer is complete. Return a changed response or None; each sees the last one's result."""
