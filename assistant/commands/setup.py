"""From names on the command line to a ready loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assistant.audio.source import FileSource, Source, StdinSource
from assistant.core import load_core
from assistant.errors import UserError
from assistant.plugin_host import PluginHost
from assistant.profile import Profile
from assistant.turns import Turns

Report = Callable[[str, str], None]


def make_host(profile: Profile, report: Report, safe: bool) -> PluginHost:
    """The plugin host, with the profile's skill names checked before anything slow is loaded."""
    host = PluginHost(profile, report, safe)
    unknown = sorted(set(profile.plugins) - set(host.plugins))
    mistakes = [
        *host.mistakes,
        *(f"profile {profile.name}: plugins.{name}: no such plugin; see: assistant plugins list" for name in unknown),
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))
    for name in named_skills(profile):
        host.skill(name)
    return host


def named_skills(profile: Profile) -> list[str]:
    """Every skill that the profile counts on."""
    answer = profile.answer
    return [answer.speech, answer.sound, *([answer.pin] if answer.pin else []), *answer.order]


def make_turns(profile: Profile, report: Report, safe: bool = False) -> Turns:
    """A loaded core with its plugins, ready to answer."""
    host = make_host(profile, report, safe)
    return Turns(load_core(profile.core), host, profile)


def make_source(wanted: str | None, profile: Profile, patient: bool = False) -> Source:
    """The microphone, a file, or standard input.

    Args:
        patient: wait for a microphone that is not there yet, instead of failing.

    Raises:
        UserError: no such device or file, or PortAudio is missing.
    """
    if wanted == "-":
        return StdinSource()
    if wanted is not None and (Path(wanted).suffix or "/" in wanted or Path(wanted).exists()):
        return FileSource(wanted)
    from assistant.audio.microphone import MicrophoneSource

    return MicrophoneSource(wanted or profile.hearing.input, patient)
