"""Varied copies of recordings: joined, faster or slower, in rooms, over noise, through a telephone.

A manifest in, a manifest of new FLAC files out. Every entry keeps the source and licence of what it
was made from and says what was done to it; a sound that is mixed in is named with its level, so
that questions about the background have answers known by construction.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from salmonn_core.audio import read_audio
from salmonn_core.config import SAMPLE_RATE
from salmonn_core.training.manifests import read_manifest

Row = dict[str, object]
MAX_JOINED_S = 15.0
JOIN_SHARE = 0.5
SPEEDS = (0.86, 1.16)
ROOM_SHARE, RT60_S = 0.35, (0.15, 0.6)
NOISE_SHARE, SNR_DB = 0.5, (3.0, 25.0)
TELEPHONE_SHARE = 0.15
PEAK = 0.7


def groups(rows: list[Row], rng: random.Random) -> Iterator[list[Row]]:
    """Rows singly, or some in a row from one speaker as one longer utterance of at most 15 s."""
    group: list[Row] = []
    room = 0.0
    for row in rows:
        seconds = float(row["duration_s"])  # type: ignore[arg-type]
        fits = group and row.get("speaker") == group[-1].get("speaker") and seconds < room
        if group and not fits:
            yield group
            group = []
        if not group:
            room = MAX_JOINED_S if rng.random() < JOIN_SHARE else 0.0
        group.append(row)
        room -= seconds + 0.3
    if group:
        yield group


def change_speed(wave: np.ndarray, factor: float) -> np.ndarray:
    """Play faster (above one) or slower; pitch moves along, as another speaker's would."""
    return soxr.resample(wave, factor, 1.0).astype(np.float32)


def at_peak(wave: np.ndarray) -> np.ndarray:
    """The same sound at a peak of 0.7; silence stays silent."""
    return wave * (PEAK / max(1e-3, float(np.abs(wave).max())))


def reverberate(wave: np.ndarray, rt60_s: float, rng: np.random.Generator) -> np.ndarray:
    """A synthetic room: exponentially decaying noise after the direct sound."""
    samples = int(rt60_s * SAMPLE_RATE)
    tail = rng.standard_normal(samples) * 10.0 ** (-3.0 * np.arange(samples) / samples)
    response = np.concatenate(([1.0], tail * rng.uniform(0.3, 0.9) / np.linalg.norm(tail)))
    size = 1 << (len(wave) + samples).bit_length()
    wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)
    return wet[: len(wave)].astype(np.float32)


def mix(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """`noise`, repeated to the wave's length, under it at a signal-to-noise ratio."""
    noise = np.resize(noise, len(wave))
    return (wave + noise * level_for(wave, noise, snr_db)).astype(np.float32)


def level_for(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> float:
    """What `noise` has to be multiplied by for a signal-to-noise ratio."""
    power = float(np.mean(wave**2)) / max(1e-9, float(np.mean(noise**2)))
    return float(np.sqrt(power / 10.0 ** (snr_db / 10.0)))


def telephone(wave: np.ndarray) -> np.ndarray:
    """Only what passes at 8 kHz."""
    narrow = soxr.resample(wave, SAMPLE_RATE, SAMPLE_RATE // 2)
    return soxr.resample(narrow, SAMPLE_RATE // 2, SAMPLE_RATE).astype(np.float32)


def join(waves: list[np.ndarray], rng: random.Random) -> np.ndarray:
    """Waves with short pauses between them."""
    parts = [waves[0]]
    for wave in waves[1:]:
        parts += [np.zeros(int(rng.uniform(0.05, 0.3) * SAMPLE_RATE), np.float32), wave]
    return np.concatenate(parts)


def vary(group: list[Row], sounds: list[Row], rng: random.Random) -> tuple[np.ndarray, Row]:
    """One new example: (samples,) float32 at 16 kHz, peak at 0.7, and its manifest entry."""
    wave = join([read_audio(str(row["path"])) for row in group], rng)
    speed = rng.uniform(*SPEEDS)
    wave, done = change_speed(wave, speed), {"speed": round(speed, 3)}
    if rng.random() < ROOM_SHARE:
        done["rt60_s"] = round(rng.uniform(*RT60_S), 2)
        wave = reverberate(wave, done["rt60_s"], np.random.default_rng(rng.getrandbits(32)))
    entry: Row = {k: v for k, v in group[0].items() if k not in ("path", "text_raw", "text_cased", "duration_s", "id")}
    entry["text"] = " ".join(str(row["text"]) for row in group)
    if sounds and rng.random() < NOISE_SHARE:
        sound = rng.choice(sounds)
        done["snr_db"] = round(rng.uniform(*SNR_DB), 1)
        wave = mix(wave, read_audio(str(sound["path"])), done["snr_db"])
        entry |= {"background": sound.get("labels"), "background_license": sound.get("license")}
    if rng.random() < TELEPHONE_SHARE:
        done["band_hz"] = 4000
        wave = telephone(wave)
    wave = at_peak(wave)
    return wave, entry | {"augmented": done, "duration_s": round(len(wave) / SAMPLE_RATE, 3)}


def augment(manifest: Path, sounds: list[Row], out: Path, name: str, seed: int) -> None:
    """Write one varied copy of a manifest's speech; what an earlier run wrote is kept."""
    rng = random.Random(seed)
    rows = [row for row in read_manifest(manifest) if float(row["duration_s"]) <= MAX_JOINED_S]  # type: ignore[arg-type]
    (out / name).mkdir(parents=True, exist_ok=True)
    lines_path = out / f"{name}.jsonl"
    done = len(lines_path.read_text().splitlines()) if lines_path.exists() else 0
    with lines_path.open("a", buffering=1) as lines:
        for number, group in enumerate(tqdm(list(groups(rows, rng)), desc=name, mininterval=20)):
            if number < done:
                continue
            wave, entry = vary(group, sounds, random.Random(f"{seed} {number}"))
            path = f"{name}/{number:06d}.flac"
            soundfile.write(out / path, wave, SAMPLE_RATE, format="FLAC")
            lines.write(json.dumps({"path": path} | entry) + "\n")
