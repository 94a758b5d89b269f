"""The whole contract between the assistant and its plugins, on one screen.

An implementation names the arguments it wants, of those listed here, and no others. Everywhere:
`settings` is the plugin's own part of the profile (an instance of its settings model, if it has one),
`state` a dictionary of its own that lives as long as the conversation, `turns` the answers so far.

The host calls each implementation alone, in a thread of its own, within the budget that the profile's
`hooks` gives to that kind of hook: *setup* 5 s, *audio* 50 ms, *response* 2 s. One that raises, takes
longer or returns something else is named; three such strikes switch the plugin off for the session.
A coroutine is awaited. What is printed becomes an event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy
from pydantic import BaseModel

from assistant.records import AudioWindow, Command, Panel, Prompt, Response, SessionInfo, Skill, Turn

PROJECT = "assistant"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
State = dict[str, Any]
Turns = tuple[Turn, ...]


class Stop:
    """What `token_generated` returns to end the answer here."""


STOP = Stop()


@hookspec
def settings_model() -> type[BaseModel]:  # type: ignore[empty-body]
    """Setup. Fires first, when the plugin is loaded. The model that its part of the profile is validated with."""


@hookspec
def register_skills(settings: Any) -> Iterable[Skill]:  # type: ignore[empty-body]
    """Setup. Fires when the plugin is loaded and when the profile changes. A name that is taken is a strike."""


@hookspec
def register_commands(settings: Any) -> Iterable[Command]:  # type: ignore[empty-body]
    """Setup. Fires for `assistant plugins run PLUGIN`. The commands that this plugin adds there."""


@hookspec
def session_started(session: SessionInfo, settings: Any, state: State) -> None:
    """Setup. Fires once, when the first window of a session has come, before anything else sees it."""


@hookspec
def profile_changed(profile: str, settings: Any, state: State) -> None:
    """Setup. Fires after the profile was switched, with the new settings; `register_skills` has fired again."""


@hookspec
def window_heard(window: AudioWindow, turns: Turns, settings: Any, state: State) -> None:
    """Audio. Fires for every window, answered or not, once the model has said what kind it is."""


@hookspec
def claim_window(window: AudioWindow, turns: Turns, settings: Any, state: State) -> tuple[str, float] | None:
    """Audio. Fires next. Return (skill name, score from 0 to 1) or None.

    The profile's `answer.pin` wins, then the first of `answer.order`, then the highest score; if nobody claims, the
    profile's skill for that kind of window answers.
    """


@hookspec
def shape_prompt(
    window: AudioWindow, skill: Skill, prompt: Prompt, turns: Turns, settings: Any, state: State
) -> Prompt | None:
    """Audio. Fires before the model runs. Return a changed prompt or None; each sees the last one's result."""


@hookspec
def token_generated(window: AudioWindow, skill: Skill, text: str, settings: Any, state: State) -> str | Stop | None:
    """Audio. Fires for each piece of the answer. Return other words (redaction), STOP to end here, or None.

    Each sees the last one's words. An answer that was begun before the window's end was sure may be discarded:
    act on the response, not on tokens.
    """


@hookspec
def consume_response(
    window: AudioWindow, skill: Skill, response: Response, turns: Turns, settings: Any, state: State
) -> Response | None:
    """Response. Fires when the answer is complete. Return a changed response (text, slots, actions) or None.

    Each sees the last one's result; the actions are carried out in order afterwards.
    """


@hookspec
def panels(turns: Turns, settings: Any, state: State) -> Iterable[Panel]:  # type: ignore[empty-body]
    """Response. Fires after each answer. What to show beside the conversation; all panels are shown."""


@hookspec
def error_raised(source: str, message: str, settings: Any, state: State) -> None:
    """Response. Fires when a turn, the device or another plugin failed; never for the plugin's own failures."""


@hookspec
def session_stopped(session: SessionInfo, settings: Any, state: State) -> None:
    """Response. Fires once, when the session ends."""
