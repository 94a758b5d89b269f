"""A desktop assistant that hears. Skill authors import everything they need from here."""

from assistant.errors import UserError
from assistant.hookspecs import hookimpl
from assistant.records import AudioWindow, GenerationSettings, Prompt, Response, Skill, Timings

__all__ = [
    "AudioWindow",
    "GenerationSettings",
    "Prompt",
    "Response",
    "Skill",
    "Timings",
    "UserError",
    "hookimpl",
]
