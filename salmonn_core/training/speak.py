"""Speak sentences with synthetic voices into a folder of FLAC files and a JSONL manifest.

Resumable: what the manifest already holds is not spoken again, and a file is complete before its
line is written.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from salmonn_core.training.augment import at_peak, change_speed
from salmonn_core.training.texts import Sentence, plain
from salmonn_core.training.voices import ESPEAK_VOICES, FLITE_VOICES, SAMPLE_RATE, Kokoro, Piper, espeak, flite

# Voices that training never hears; word error rates on "unseen voices" are measured on these.
HELD_OUT = ("af_sarah", "am_puck", "bf_lily", "bm_lewis")


TRIES = 200  # draws of a voice for a sentence before all of its voices are taken to be used


@dataclass(frozen=True)
class Take:
    """One sentence in one voice."""

    sentence: Sentence
    engine: str
    voice: str
    mixture: dict[str, float]
    speed: float

    @property
    def id(self) -> str:
        return f"{self.engine}-{self.voice}-{self.sentence.id}".replace("+", "_")


def takes(engine: str, split: str, pool: list[Sentence], seed: int, voices: Sequence[str] = ()) -> Iterator[Take]:
    """Endless-free plan of who says what: one voice a sentence, chosen by the seed.

    Args:
        voices: to choose from, of an engine whose voices are the user's.
    """
    rng = random.Random(f"{seed}{engine}{split}")
    for sentence in pool:
        if sentence.split != split:
            continue
        yield _take(sentence, engine, split, rng, voices)


def every_voice(engine: str, split: str, pool: list[Sentence], seed: int, voices: Sequence[str] = ()) -> Iterator[Take]:
    """Takes of a few sentences in turn, whatever their split, in voice after voice, each pair once."""
    rng = random.Random(f"{seed}{engine}{split} every voice")
    done: set[str] = set()
    for sentence in islice(cycle(pool), TRIES * len(pool)):
        take = _take(sentence, engine, split, rng, voices)
        if take.id not in done:
            done.add(take.id)
            yield take


def _take(sentence: Sentence, engine: str, split: str, rng: random.Random, voices: Sequence[str]) -> Take:
    mixture, voice = _pick_voice(engine, split, rng, voices)
    return Take(sentence, engine, voice, mixture, rng.uniform(0.85, 1.2))


def _pick_voice(engine: str, split: str, rng: random.Random, voices: Sequence[str]) -> tuple[dict[str, float], str]:
    if engine != "kokoro":
        return {}, rng.choice(voices or (FLITE_VOICES if engine == "flite" else ESPEAK_VOICES))
    if split == "dev":
        voice = rng.choice(HELD_OUT)
        return {voice: 1.0}, voice
    accent = "a" if rng.random() < 0.65 else "b"
    known = [v for v in KOKORO_TRAIN if v.startswith(accent)]
    first, second = rng.sample(known, 2)
    weight = rng.choice((1.0, 1.0, 0.7, 0.5))
    name = first if weight == 1.0 else f"{first}{int(weight * 100)}{second}"
    return {first: weight, second: 1.0 - weight}, name


KOKORO_TRAIN = tuple(
    f"{group}_{name}"
    for group, names in {
        "af": "alloy aoede bella heart jessica kore nicole nova river sky",
        "am": "adam echo eric fenrir liam michael onyx santa",
        "bf": "alice emma isabella",
        "bm": "daniel fable george",
    }.items()
    for name in names.split()
)


def render(take: Take, speaker: Kokoro | Piper | None) -> np.ndarray:
    """(samples,) float32 at 16 kHz, peak at 0.7."""
    if isinstance(speaker, Kokoro):
        wave = speaker.speak(take.sentence.text, take.mixture, take.speed)
    elif isinstance(speaker, Piper):
        # The few voices of a folder become many, as flite's do below; words come at the voice's own pace again.
        wave = change_speed(speaker.speak(take.sentence.text, take.voice, 1.0 / take.speed), take.speed)
    elif take.engine == "flite":
        # flite's four voices become many: played faster or slower, formants and pitch move together.
        wave = change_speed(flite(take.voice, take.sentence.text), take.speed)
    else:
        wave = espeak(take.voice, take.sentence.text, int(165 * take.speed))
    return at_peak(wave)


def entry(take: Take, path: str, wave: np.ndarray) -> dict[str, object]:
    """The manifest line: the official annotation fields, and where it came from."""
    s = take.sentence
    known = {"intent": s.intent, "slots": s.slots or None, "answer": s.answer}
    return {
        "path": path,
        "text": plain(s.text),
        "text_raw": s.text,
        "task": "asr",
        "duration_s": round(len(wave) / SAMPLE_RATE, 3),
        "speaker": f"{take.engine}:{take.voice}",
        "source": s.source,
        "license": s.license,
    } | {k: v for k, v in known.items() if v}


def speak_all(plan: list[Take], out: Path, manifest: Path, speaker: Kokoro | Piper | None) -> None:
    """Render the plan in order, skipping what the manifest holds."""
    (out / "speech").mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["path"] for line in manifest.read_text().splitlines()} if manifest.exists() else set()
    with manifest.open("a", buffering=1) as lines:
        for take in tqdm(plan, desc=manifest.stem, mininterval=20):
            path = f"speech/{take.id}.flac"
            if path in done:
                continue
            wave = render(take, speaker)
            soundfile.write(out / path, wave, SAMPLE_RATE, format="FLAC")
            lines.write(json.dumps(entry(take, path, wave)) + "\n")
