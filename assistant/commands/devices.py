"""`assistant devices`."""

from __future__ import annotations

from dataclasses import asdict

from assistant.audio.microphone import input_devices
from assistant.commands.output import print_rows
from assistant.errors import UserError


def run(as_json: bool) -> None:
    devices = input_devices()
    if not devices and not as_json:
        raise UserError("no input device was found: plug in a microphone, or use --input FILE")
    print_rows((asdict(device) for device in devices), as_json)
