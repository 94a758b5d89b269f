"""Music rendered with fluidsynth, so that instrument, tempo and mode are known exactly."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from salmonn_core.audio import read_audio
from salmonn_core.config import SAMPLE_RATE
from salmonn_core.errors import UserError
from salmonn_core.training.augment import at_peak
from salmonn_core.training.manifests import Row

FONTS = tuple(Path("/usr/share/sounds/sf2") / f"{name}.sf2" for name in ("FluidR3_GM", "TimGM6mb"))
FONT_LICENSES = {
    "FluidR3_GM": "MIT",
    "MuseScore_General_Full": "MIT",
    "MuseScore_General_Lite": "MIT",
    "TimGM6mb": "GPL-2",
    "sf_GMbank": "public domain",
}
PROGRAMS: dict[str, tuple[int, ...]] = {  # General MIDI programs, counted from 0
    "piano": (0, 1, 3), "harpsichord": (6,), "organ": (16, 19, 20), "accordion": (21,),
    "guitar": (24, 25, 26), "electric guitar": (27, 29, 30), "harp": (46,), "banjo": (105,),
    "violin": (40,), "cello": (42,), "strings": (48, 49), "choir": (52, 53),
    "trumpet": (56,), "trombone": (57,), "french horn": (60,),
    "saxophone": (65, 66), "oboe": (68,), "clarinet": (71,), "flute": (73,), "recorder": (74,),
    "marimba": (12,), "xylophone": (13,), "vibraphone": (11,), "music box": (10,),
}  # fmt: skip
LOW = frozenset({"cello", "trombone", "french horn"})  # an octave down
SOLO_SHARE, DRUMS_SHARE = 0.4, 0.25
TEMPI = {"slow": (55, 75), "medium": (90, 115), "fast": (140, 175)}  # beats a minute
MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
CADENCE = ((0, 2, 4), (3, 5, 7), (4, 6, 8), (0, 2, 4))  # scale steps of the chords, a bar each
TICKS = 480  # a beat
CHORDS, MELODY, DRUMS = 1, 0, 9  # MIDI channels
BASS_DRUM, SNARE = 36, 38
Event = tuple[int, bytes]


def soundfont(wanted: Path | None) -> Path:
    """A General MIDI sound font.

    Raises:
        UserError: there is none.
    """
    for path in (wanted,) if wanted else FONTS:
        if path.exists():
            return path
    raise UserError(f"no sound font at {wanted or FONTS[0]}; on Debian: apt-get install fluidsynth fluid-soundfont-gm")


def compose(rng: random.Random, seconds: float) -> tuple[bytes, Row]:
    """A MIDI file of a melody, mostly over chords and sometimes over drums, and its facts."""
    instrument, tempo, mode = rng.choice(list(PROGRAMS)), rng.choice(list(TEMPI)), rng.choice(list(MODES))
    bpm, program = rng.randint(*TEMPI[tempo]), rng.choice(PROGRAMS[instrument])
    root, beats = rng.randint(52, 63) - 12 * (instrument in LOW), int(seconds * bpm / 60)
    scale = [root + 12 * octave + step for octave in range(3) for step in MODES[mode]]
    events: list[Event] = [(0, bytes((0xC0 | channel, program))) for channel in (MELODY, CHORDS)]
    at = 0
    while at < beats * TICKS:
        chord = CADENCE[at // (4 * TICKS) % len(CADENCE)]
        length = rng.choice((TICKS // 2, TICKS, TICKS))
        events += _note(MELODY, scale[rng.choice(chord) + 7], at, length, 95)
        at += length
    solo, drums = rng.random() < SOLO_SHARE, rng.random() < DRUMS_SHARE
    events += [] if solo else _chords(scale, beats)
    events += _drums(beats) if drums else []
    end = f" with drums{'.' if solo else ' and chords.'}" if drums else "."
    caption = f"{tempo.capitalize()} music in a {mode} key, played on {instrument}{end}"
    facts: Row = {"instruments": [instrument], "tempo": tempo, "bpm": bpm, "mode": mode, "drums": drums}
    return _midi(events, bpm), {"text": caption, "caption": caption, "labels": ["music", instrument], **facts}


def _chords(scale: list[int], beats: int) -> list[Event]:
    steps = [(bar, step) for bar in range(0, beats, 4) for step in CADENCE[bar // 4 % len(CADENCE)]]
    return [event for bar, step in steps for event in _note(CHORDS, scale[step], bar * TICKS, 4 * TICKS, 60)]


def _drums(beats: int) -> list[Event]:
    """Bass drum and snare in turn, one a beat."""
    hits = [(beat, SNARE if beat % 2 else BASS_DRUM) for beat in range(beats)]
    return [event for beat, drum in hits for event in _note(DRUMS, drum, beat * TICKS, TICKS // 2, 90)]


def _note(channel: int, pitch: int, at: int, length: int, velocity: int) -> list[Event]:
    return [(at, bytes((0x90 | channel, pitch, velocity))), (at + length, bytes((0x80 | channel, pitch, 0)))]


def _midi(events: list[Event], bpm: int) -> bytes:
    """A format 0 MIDI file."""
    tempo = b"\xff\x51\x03" + round(60e6 / bpm).to_bytes(3, "big")
    track, now = b"", 0
    # Notes end before others begin at the same time, or a repeated pitch would be cut off.
    for at, message in sorted([(0, tempo), *events], key=lambda e: (e[0], e[1][0] & 0xF0 == 0x90)):
        track += _variable(at - now) + message
        now = at
    track += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS) + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable(number: int) -> bytes:
    """MIDI's variable-length number."""
    found = [number & 0x7F]
    while number := number >> 7:
        found.insert(0, number & 0x7F | 0x80)
    return bytes(found)


def render(midi: bytes, font: Path, seconds: float) -> np.ndarray:
    """(samples,) float32 at 16 kHz, peak at 0.7.

    Raises:
        UserError: fluidsynth is not installed, or fails.
    """
    program = shutil.which("fluidsynth")
    if program is None:
        raise UserError("music needs fluidsynth; on Debian: apt-get install fluidsynth fluid-soundfont-gm")
    with tempfile.TemporaryDirectory() as folder:
        score, out = Path(folder) / "score.mid", Path(folder) / "out.wav"
        score.write_bytes(midi)
        # Only the instruments that are played: a compressed font takes seconds to unpack as a whole.
        lazily = ("-o", "synth.dynamic-sample-loading=1")
        command = [program, "-ni", "-q", *lazily, "-F", str(out), "-r", str(SAMPLE_RATE), str(font), str(score)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not out.exists():
            raise UserError(f"fluidsynth failed: {done.stderr.strip().splitlines()[-1:]}")
        return at_peak(read_audio(out, seconds=seconds))
