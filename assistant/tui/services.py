"""What the screen needs of the world outside. Tests give fakes for single parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assistant.audio.source import Source
from assistant.audio.vad import VoiceDetector, make_detector
from assistant.commands.setup import make_source, make_turns
from assistant.errors import UserError
from assistant.events import Event
from assistant.profile import Profile
from assistant.records import SAMPLE_RATE, AudioWindow
from assistant.turns import Turns

Report = Callable[[str, str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Microphone:
    """An input device, as the palette and the first-run screen list it."""

    number: int
    name: str
    default: bool


def patient_source(wanted: str | None, profile: Profile) -> Source:
    """A source that waits for a microphone that is not there yet."""
    return make_source(wanted, profile, patient=True)


def list_microphones() -> list[Microphone]:
    from assistant.audio.devices import input_devices

    return [Microphone(device.index, device.name, device.default) for device in input_devices(look_again=True)]


def play(samples: np.ndarray, stopped: Callable[[], bool]) -> None:
    from assistant.audio.speaker import play as play_aloud

    play_aloud(samples, stopped)


def missing_weights() -> list[str]:
    from salmonn_core.weights.sources import PARTS, cache_folder, is_complete

    return [name for name in PARTS if not is_complete(cache_folder() / name)]


def fetch_weights(name: str, progress: Progress) -> None:
    from salmonn_core.weights.sources import pull

    pull(name, progress)


def save_wave(path: Path, window: AudioWindow) -> None:
    """Write a window as 16-bit WAV.

    Raises:
        UserError: it cannot be written there.
    """
    import soundfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, window.samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"cannot write {path} ({error})") from error


@dataclass(frozen=True)
class Services:
    """Every door of the screen to the outside.

    Attributes:
        load_turns: a loaded model with its plugins, ready to answer; slow.
        detector: the voice detector that a profile asks for.
        open_source: a microphone by name or number; None is the default one.
        microphones: those that there are.
        play: plays (n,) float32 at 16 kHz, until done or told to stop.
        missing_weights, fetch_weights: parts of the model that are not here, and how to get one.
        save_wave: writes a window.
        consumers: told every event, from any thread, after the screen; history listens here.
        forget: forgets what is stored of a window, by its number.
        wipe: forgets what is stored, and says what it did.
        privacy: what a profile keeps, in words for the status line, from long to short.
        switched: told the profile that is in force from now on.
    """

    load_turns: Callable[[Profile, Report], Turns] = make_turns
    detector: Callable[[Profile], VoiceDetector] = lambda profile: make_detector(profile.hearing)
    open_source: Callable[[str | None, Profile], Source] = patient_source
    microphones: Callable[[], list[Microphone]] = list_microphones
    play: Callable[[np.ndarray, Callable[[], bool]], None] = play
    missing_weights: Callable[[], list[str]] = missing_weights
    fetch_weights: Callable[[str, Progress], None] = fetch_weights
    save_wave: Callable[[Path, AudioWindow], None] = save_wave
    consumers: tuple[Callable[[Event], None], ...] = ()
    forget: Callable[[int], None] = lambda _: None
    wipe: Callable[[], str] | None = None
    privacy: Callable[[Profile], tuple[str, ...]] = lambda _: ("sound stays in memory, nothing is stored", "not stored")
    switched: Callable[[Profile], None] = lambda _: None
