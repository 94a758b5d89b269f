"""What the screen's keys do, which of them a profile may move, and which keys no terminal passes on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One action of the screen and the key that it has unless a profile says otherwise."""

    action: str
    key: str
    label: str
    does: str
    footer: bool = False


KEYS = (
    Key("cut", "space", "Answer", "End the open window and answer it", footer=True),
    Key("cancel", "escape", "Stop", "Stop the running answer, or a replay", footer=True),
    Key("talk", "t", "Talk", "Push to talk: once to begin, once more to end and be answered", footer=True),
    Key("mute", "m", "Mute", "Hear silence until pressed again", footer=True),
    Key("pause", "p", "Pause", "Stop listening until pressed again"),
    Key("next_skill", "s", "Skill", "Let the next skill answer speech"),
    Key("previous_window", "left", "Earlier", "Select the window before"),
    Key("next_window", "right", "Later", "Select the window after"),
    Key("replay", "r", "Replay", "Play the selected window; the ears are off meanwhile"),
    Key("ask_again", "a", "Ask", "Ask the selected window something else, without encoding it again", footer=True),
    Key("why", "w", "Why", "Why the selected window opened and ended, who answered, and how long it took", footer=True),
    Key("save", "v", "Save", "Save the selected window as a WAV file"),
    Key("delete", "d", "Delete", "Forget the selected window and its answers"),
    Key("wipe", "ctrl+x", "Forget all", "Forget everything that was heard"),
    Key("panels", "b", "Panels", "What the plugins show beside the conversation, over the whole screen"),
    Key("plugin_output", "l", "Plugin output", "What the plugins printed, and what happened to them"),
    Key("captions", "c", "Captions", "Large captions, to be read across the room"),
    Key("plain", "x", "Words only", "Words instead of drawings, for screen readers"),
    Key("switch_profile", "o", "Profile", "Choose another profile, and see what it changes before it does"),
    Key("command_palette", "ctrl+p", "Menu", "Find profiles, skills, devices, plugins and themes", footer=True),
    Key("help", "f1", "Help", "List the keys", footer=True),
    Key("quit", "q", "Quit", "Leave", footer=True),
)
ACTIONS = {key.action: key for key in KEYS}
SWALLOWED = {
    "ctrl+m": "terminals send Enter for it",
    "ctrl+i": "terminals send Tab for it",
    "ctrl+j": "terminals send Enter for it",
    "ctrl+h": "terminals send Backspace for it",
    "ctrl+[": "terminals send Escape for it",
    "ctrl+z": "it suspends the program",
}
NAMED = [
    "space",
    "enter",
    "escape",
    "tab",
    "backspace",
    "delete",
    "insert",
    "home",
    "end",
    "pageup",
    "pagedown",
    "up",
    "down",
    "left",
    "right",
]
PLAIN = re.compile(r"[a-zA-Z0-9]|f([1-9]|1[0-2])|" + "|".join(NAMED))
WITH_MODIFIER = re.compile(rf"ctrl\+([a-z]|{'|'.join(NAMED)})|shift\+(f([1-9]|1[0-2])|tab|up|down|left|right)")


def known_action(name: str) -> str:
    """The name itself, if the screen has such an action.

    Raises:
        ValueError: it has none; the nearest name is in the message.
    """
    if name in ACTIONS:
        return name
    near = difflib.get_close_matches(name, ACTIONS, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"no such action{hint}; there are: {', '.join(ACTIONS)}")


def usable(key: str) -> str:
    """The key itself, if terminals pass it on.

    Raises:
        ValueError: they do not, or there is no such key.
    """
    if key in SWALLOWED:
        raise ValueError(f"{key} never arrives: {SWALLOWED[key]}")
    if not (PLAIN.fullmatch(key) or WITH_MODIFIER.fullmatch(key)):
        raise ValueError(f"no key {key!r}; a key is a letter, a digit, f1 to f12, ctrl+letter, or: {', '.join(NAMED)}")
    return key


def bound(chosen: Mapping[str, str]) -> dict[str, str]:
    """The key of every action, with a profile's own choice in force."""
    return {key.action: chosen.get(key.action, key.key) for key in KEYS}


def refuse_clashes(chosen: Mapping[str, str]) -> None:
    """Raises:
    ValueError: two actions are on one key.
    """
    taken: dict[str, str] = {}
    for action, key in bound(chosen).items():
        if key in taken:
            raise ValueError(f"{key!r} would be both {taken[key]!r} and {action!r}; give one of them another key")
        taken[key] = action
