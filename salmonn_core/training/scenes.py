"""Questions about what was heard whose answers are known by construction: which, how many, who, before or after.

A scene is several clips one after the other (`expand_wav` of the official annotations), so it needs no
audio of its own; a question asked over a sound is mixed at a known level.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from salmonn_core.config import SAMPLE_RATE
from salmonn_core.errors import UserError
from salmonn_core.training.augment import at_peak, level_for
from salmonn_core.training.manifests import GENDERS, JOINED, PAUSE_SAMPLES, Row, read_clip
from salmonn_core.training.texts import Sentence
from salmonn_core.training.voices import gender_of

LONGEST_PART_S = 6.0
NUMBERS = ("zero", "one", "two", "three")
BEFORE_S, AFTER_S = (0.2, 1.0), (0.5, 2.0)  # of the sound alone, around the question over it
# Asked aloud over a sound: an assistant that only hears the words cannot answer.
ASKED_ALOUD = (
    "What is that sound?",
    "What is that noise in the background?",
    "What can you hear behind me?",
    "Which sound is that?",
    "Tell me what is making that noise.",
    "What is going on around me?",
    "Do you hear that? What is it?",
    "What else do you hear besides my voice?",
)

Scene = tuple[list[Row], str, str]  # clips in order, question, answer
Maker = Callable[[Sequence[Row], Sequence[Row], random.Random], Scene]


def label_of(row: Row) -> str:
    return str(row["labels"][0])  # type: ignore[index]


def _seconds(row: Row) -> float:
    return float(row["duration_s"])  # type: ignore[arg-type]


def _kind(row: Row) -> str:
    return str(row.get("kind") or "speech")


def _two(sounds: Sequence[Row], rng: random.Random) -> tuple[Row, Row]:
    first = rng.choice(sounds)
    return first, rng.choice([s for s in sounds if label_of(s) != label_of(first)])


def _which(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random) -> Scene:
    pair = _two(sounds, rng)
    place = rng.randrange(2)
    return list(pair), f"Which sound comes {('first', 'last')[place]}?", label_of(pair[place])


def _order(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random) -> Scene:
    first, second = _two(sounds, rng)
    asked, other, answer = (first, second, "before") if rng.random() < 0.5 else (second, first, "after")
    return [first, second], f"Is the {label_of(asked)} before or after the {label_of(other)}?", answer


def _how_many(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random) -> Scene:
    parts, count = [rng.choice(sounds)], rng.randint(1, 3)
    while len(parts) < count:
        others = [s for s in sounds if label_of(s) not in map(label_of, parts)]
        parts.append(rng.choice(others))
    return parts, "How many different sounds are there?", NUMBERS[len(parts)]


def _who(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random) -> Scene:
    gender = rng.choice(GENDERS)
    said = rng.choice([s for s in speech if gender_of(s) == gender])
    return [said], "Who is speaking, a man or a woman?", gender


def _beside_speech(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random) -> Scene:
    said, heard = rng.choice(speech), rng.choice(sounds)
    if rng.random() < 0.5:
        return [said, heard], "Which sound follows the words?", label_of(heard)
    return [heard, said], "Which sound comes before the words?", label_of(heard)


def _speech_order(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random) -> Scene:
    said, heard = rng.choice(speech), rng.choice(sounds)
    parts, answer = ([said, heard], "before") if rng.random() < 0.5 else ([heard, said], "after")
    return parts, f"Are the words before or after the {label_of(heard)}?", answer


def _first_word(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random) -> Scene:
    said = rng.choice(speech)
    words = str(said["text"]).split()
    place = rng.choice((0, -1))
    return [said], f"What is the {'first' if place == 0 else 'last'} word?", words[place]


MAKERS: tuple[Maker, ...] = (_which, _order, _how_many, _who, _beside_speech, _speech_order, _first_word)
# Those whose answer the names of the parts and the words tell; a voice has to be heard.
TOLD_BY_NAMES = tuple(maker for maker in MAKERS if maker is not _who)


def usable(rows: Sequence[Row], speech: bool) -> list[Row]:
    """Clips short enough to stand beside others, whose truth is known."""
    fit = [r for r in rows if _seconds(r) <= LONGEST_PART_S and JOINED not in str(r["path"])]
    return [r for r in fit if r.get("text")] if speech else [r for r in fit if r.get("kind") == "event" and r["labels"]]


def check_parts(speech: Sequence[Row], sounds: Sequence[Row], where: str) -> None:
    """Whether scenes can be made of these `usable` clips: they ask who speaks, and compare sounds.

    Raises:
        UserError: naming what is missing.
    """
    heard = {label_of(row) for row in sounds}
    if len(heard) < 2:
        raise UserError(f"{where}: scenes need short clips of at least two different sounds, and have {len(heard)}")
    for gender in GENDERS:
        if not any(gender_of(row) == gender for row in speech):
            raise UserError(
                f"{where}: scenes ask who speaks, and no short clip is of a {gender}'s voice; "
                "take what `speak` made with kokoro or flite, whose voices are known"
            )


def scene(speech: Sequence[Row], sounds: Sequence[Row], rng: random.Random, number: int) -> Row:
    """The manifest's entry of one scene; the kinds of question take turns."""
    parts, question, answer = MAKERS[number % len(MAKERS)](speech, sounds, rng)
    kinds = {_kind(p) for p in parts}
    entry: Row = {
        "path": str(parts[0]["path"]),
        "text": answer,
        "task": "QA",
        "Q": question,
        "duration_s": round(sum(map(_seconds, parts)) + PAUSE_SAMPLES / SAMPLE_RATE * (len(parts) - 1), 3),
        "source": " + ".join(str(p.get("source")) for p in parts),
        "license": " + ".join(sorted({str(p.get("license")) for p in parts})),
    }
    if said := " ".join(str(p["text"]) for p in parts if _kind(p) == "speech"):
        entry["said"] = said
    if len(parts) > 1:
        entry["expand_wav"] = [str(p["path"]) for p in parts[1:]]
    return entry | ({"kind": kinds.pop()} if len(kinds) == 1 else {})


def aloud() -> list[Sentence]:
    """The questions to be spoken over sounds."""
    return [Sentence(text, "this project", "Apache-2.0") for text in ASKED_ALOUD]


def over(said: Row, heard: Row, snr_db: float, rng: random.Random) -> tuple[np.ndarray, Row]:
    """A spoken question over a sound that begins before it and goes on after it, and its entry."""
    voice, sound = read_clip(str(said["path"])), read_clip(str(heard["path"]))
    lead, tail = (int(rng.uniform(*limits) * SAMPLE_RATE) for limits in (BEFORE_S, AFTER_S))
    padded = np.concatenate((np.zeros(lead, np.float32), voice, np.zeros(tail, np.float32)))
    sound = np.resize(sound, len(padded))
    wave = at_peak((padded + sound * level_for(voice, sound, snr_db)).astype(np.float32))
    return wave, {
        "text": label_of(heard),
        "task": "co_reasoning",
        "said": said["text"],
        "speaker": said.get("speaker"),
        "source": said.get("source"),
        "license": said.get("license"),
        "snr_db": snr_db,
        "background": heard["labels"],
        "background_source": heard.get("source"),
        "background_license": heard.get("license"),
    }
