"""What PulseAudio or PipeWire is listening to: PortAudio only sees a device called `default` there."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

DEVICES = ("default", "pulse", "pipewire")  # the ALSA names that lead to the server
TIMEOUT_S = 1.0


@dataclass(frozen=True)
class ServerSource:
    """A source of the sound server, at its own rate and number of channels."""

    name: str
    rate_hz: int
    channels: int


def default_name() -> str | None:
    """The server's default source, or None: no server, or it has none."""
    for line in _pactl("info").splitlines():
        key, _, value = line.partition(":")
        if key == "Default Source":
            name = value.strip()
            return None if name in ("", "(null)") else name
    return None


def default_source() -> ServerSource | None:
    """The server's default source with its format, or None."""
    name = default_name()
    for line in _pactl("list", "short", "sources").splitlines():
        fields = line.split("\t")
        if len(fields) > 3 and fields[1] == name:
            _sample, channels, rate = fields[3].split()
            return ServerSource(name, int(rate.removesuffix("Hz")), int(channels.removesuffix("ch")))
    return None


def _pactl(*arguments: str) -> str:
    program = shutil.which("pactl")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # a server that does not answer is one that we know nothing of
    return done.stdout
