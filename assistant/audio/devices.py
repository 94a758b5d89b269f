"""PortAudio's input devices: listing, choosing, and looking again after something was plugged in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from assistant.audio.quiet import native_output_apart
from assistant.errors import UserError

INSTALL_HINT = (
    "PortAudio is not installed, so there is no live microphone (files and standard input work without it). "
    "On Debian or Ubuntu: sudo apt-get install libportaudio2; on Fedora: sudo dnf install portaudio"
)

_lock = threading.RLock()
_streams = 0


class DeviceMissing(UserError):
    """The device that was asked for is not there now; it may come."""


@dataclass(frozen=True)
class Device:
    """An input device as PortAudio sees it."""

    index: int
    name: str
    host: str
    channels: int
    rate_hz: int
    default: bool


def portaudio() -> Any:
    """The sounddevice module.

    Raises:
        UserError: the PortAudio library is missing, with what to install.
    """
    try:
        with _lock, native_output_apart():
            import sounddevice
    except OSError as error:
        raise UserError(INSTALL_HINT) from error
    return sounddevice


@contextmanager
def streaming() -> Iterator[Any]:
    """The sounddevice module, for as long as a stream of it is open: PortAudio is not started anew meanwhile."""
    global _streams  # noqa: PLW0603 - PortAudio's state is the process's
    sounddevice = portaudio()
    with native_output_apart():
        with _lock:
            _streams += 1
        try:
            yield sounddevice
        finally:
            with _lock:
                _streams -= 1


def input_devices(look_again: bool = False) -> list[Device]:
    """Every device that has an input.

    Args:
        look_again: start PortAudio anew, for it lists what there was when it started. While somebody else streams it
            cannot be, and the list is the old one.

    Raises:
        UserError: PortAudio is missing or fails.
    """
    sounddevice = portaudio()
    with _lock, native_output_apart():
        try:
            if look_again and not _streams:
                _restart(sounddevice)
            return _listed(sounddevice)
        except sounddevice.PortAudioError as error:
            raise UserError(f"PortAudio cannot list the devices ({error})") from error


def _restart(sounddevice: Any) -> None:
    while sounddevice._initialized:
        sounddevice._terminate()
    sounddevice._initialize()


def _listed(sounddevice: Any) -> list[Device]:
    default = int(sounddevice.default.device[0])
    hosts = sounddevice.query_hostapis()
    return [
        Device(i, row["name"], hosts[row["hostapi"]]["name"], row["max_input_channels"],
               int(row["default_samplerate"]), i == default)
        for i, row in enumerate(sounddevice.query_devices())
        if row["max_input_channels"] > 0
    ]  # fmt: skip


def choose_device(wanted: str | None, devices: list[Device]) -> Device:
    """The input device of that number or name part; the default one for None.

    Raises:
        DeviceMissing: there is none.
        UserError: several fit.
    """
    if not devices:
        raise DeviceMissing("no input device: plug in a microphone, or use --input FILE")
    if wanted is None:
        return next((device for device in devices if device.default), devices[0])
    if wanted.isdigit():
        found = [device for device in devices if device.index == int(wanted)]
    else:
        found = [device for device in devices if wanted.lower() in device.name.lower()]
        found = [d for d in found if d.name.lower() == wanted.lower()] or found
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{device.index} {device.name!r}" for device in devices)
    if found:
        raise UserError(f"{len(found)} input devices fit {wanted!r}; there are: {listed}")
    raise DeviceMissing(f"no input device {wanted!r}; there are: {listed}")


def same_device(known: Device, devices: list[Device]) -> Device:
    """That device in a newer list, where its number may be another.

    Raises:
        DeviceMissing: it is gone.
    """
    for device in devices:
        if (device.name, device.host) == (known.name, known.host):
            return device
    raise DeviceMissing(f"{known.name} is not there")
