"""Notifies when a named sound is heard: the doorbell, an alarm, a baby, running water."""

import re
from dataclasses import replace

from pydantic import BaseModel, Field

from assistant import AudioWindow, Notify, Panel, Response, Skill, State, hookimpl


class Alert(BaseModel, extra="forbid", frozen=True):
    words: tuple[str, ...] = Field(min_length=1, description="beginnings of words in the description of the sound")
    min_dbfs: float = Field(-60.0, le=0, description="quieter sounds do not count")
    times: int = Field(1, ge=1, description="so often within `within_s`; 2 spares most false alarms")
    within_s: float = Field(30.0, gt=0)
    cooldown_s: float = Field(60.0, ge=0, description="silence after a notification")


DEFAULT = {
    "Doorbell": Alert(words=("doorbell", "bell")),
    "Alarm": Alert(words=("alarm", "siren", "beep"), cooldown_s=20),
    "Baby": Alert(words=("baby", "babies", "infant"), times=2),
    "Running water": Alert(words=("water", "tap", "faucet"), times=2),
}


class Settings(BaseModel, extra="forbid", frozen=True):
    alerts: dict[str, Alert] = DEFAULT
    after: tuple[str, ...] = Field(("sound-alerts",), description="skills whose descriptions of sounds are looked at")


@hookimpl
def settings_model() -> type[BaseModel]:
    return Settings


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="sound-alerts",
            description="Says what a sound is and notifies if it is one of the profile's",
            instruction="Describe the sound.",
            kinds=frozenset({"sound"}),
            settings={"max_new_tokens": 40, "names_first": True},
        )
    ]


@hookimpl
def consume_response(
    window: AudioWindow, skill: Skill, response: Response, settings: Settings, state: State
) -> Response | None:
    if skill.name not in settings.after or (window.kind == "speech" and "speech" in skill.kinds):
        return None  # words that somebody says are no sound
    due = [name for name, alert in settings.alerts.items() if _is_due(name, alert, window, response.text, state)]
    if not due:
        return None
    return replace(response, actions=(*response.actions, *(Notify(name, response.text) for name in due)))


@hookimpl
def panels(state: State) -> list[Panel]:
    rows = tuple((name, f"{at_s:.0f} s") for name, at_s in state.get("told", {}).items())
    return [Panel("Alerts", (("sound", "last heard at"), *rows))] if rows else []


def names(alert: Alert, description: str) -> bool:
    """Whether a description of a sound has one of the alert's words."""
    words = "|".join(map(re.escape, alert.words))
    return re.search(rf"\b({words})", description, re.IGNORECASE) is not None


def _is_due(name: str, alert: Alert, window: AudioWindow, text: str, state: State) -> bool:
    """Whether this sound is to be told now; counts it."""
    if window.level_dbfs < alert.min_dbfs or not names(alert, text):
        return False
    heard = [at for at in state.setdefault("heard", {}).get(name, ()) if at > window.start_s - alert.within_s]
    state["heard"][name] = heard = [*heard, window.start_s]
    told = state.setdefault("told", {})
    if len(heard) < alert.times or window.start_s - told.get(name, float("-inf")) < alert.cooldown_s:
        return False
    told[name] = window.start_s
    return True
