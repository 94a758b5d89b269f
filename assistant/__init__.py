"""A desktop assistant that hears. Skill authors import everything they need from here."""

from assistant.actions import Ask, Notify, Record, Show, Write
from assistant.errors import UserError
from assistant.hookspecs import STOP, State, Stop, hookimpl
from assistant.records import (
    AudioWindow,
    Command,
    GenerationSettings,
    Panel,
    Prompt,
    Response,
    SessionInfo,
    Skill,
    Timings,
    Turn,
)
from salmonn_core.prompts import READING_WEIGHT, WORDS_HERE, said_here, transcript_limit

__all__ = [
    "READING_WEIGHT",
    "STOP",
    "WORDS_HERE",
    "Ask",
    "AudioWindow",
    "Command",
    "GenerationSettings",
    "Notify",
    "Panel",
    "Prompt",
    "Record",
    "Response",
    "SessionInfo",
    "Show",
    "Skill",
    "State",
    "Stop",
    "Timings",
    "Turn",
    "UserError",
    "Write",
    "hookimpl",
    "said_here",
    "transcript_limit",
]
