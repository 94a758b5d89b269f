"""From clips to (instruction, answer) pairs, by the official task names.

Answers are known by construction: transcripts, captions, labels, slots of the corpus, and for spoken
questions and stories what the base LLM itself answers to the transcript or the caption in text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from salmonn_core.prompts import INSTRUCTIONS, slot_instruction
from salmonn_core.training.corpus import Clip

# How often each task is drawn for a clip that allows it.
WEIGHTS: dict[str, dict[str, float]] = {
    "align": {"asr": 1.0, "audiocaption": 1.0},
    "pretrain": {"asr": 1.0, "audiocaption": 1.0},
    "instruct": {"asr": 1.0, "audiocaption": 1.0, "kind": 0.1, "slots": 0.35, "QA": 0.5, "story": 0.2},
    "activate": {"QA": 1.0, "story": 1.0, "audiocaption": 0.3, "asr": 0.3},
}
SLOT_DISTRACTORS = 2


@dataclass(frozen=True)
class Example:
    """One training example."""

    clip: Clip
    task: str
    instruction: str
    answer: str


def slot_record(clip: Clip, names: list[str]) -> dict[str, str | None]:
    """The value of each named slot in this clip's annotation, None where it is not said."""
    slots: list[list[str]] = clip.row.get("slots") or []  # type: ignore[assignment]
    said = {name: value.lower() for name, value in reversed(slots)}
    return {name: said.get(name) for name in names}


def _answers(clip: Clip, answers: Mapping[str, str], rng: random.Random) -> dict[str, tuple[str, str]]:
    """What each task would ask of this clip, and the answer."""

    def ask(task: str) -> str:
        return rng.choice(INSTRUCTIONS[task])

    if clip.task not in (None, "asr", "audiocaption", "music_description"):
        return {clip.task: (str(clip.row.get("Q") or ask(clip.task)), str(clip.row["text"]))}
    found: dict[str, tuple[str, str]] = {"kind": (ask("kind"), _kind(clip))}
    if clip.kind == "speech":
        found["asr"] = (ask("asr"), clip.text or str(clip.row["text"]))
    elif clip.caption:
        found["audiocaption"] = (ask("audiocaption"), clip.caption)
        if clip.task == "music_description" or (clip.kind == "music" and rng.random() < 0.5):
            found["audiocaption"] = (ask("music_description"), clip.caption)
    for task in ("QA", "story"):
        if f"{task}:{clip.text}" in answers:
            found[task] = (ask(task), answers[f"{task}:{clip.text}"])
    if clip.row.get("slots"):
        found["slots"] = _slots(clip, rng)
    return found


def _kind(clip: Clip) -> str:
    return {"event": "sound"}.get(clip.kind, clip.kind)


def _slots(clip: Clip, rng: random.Random) -> tuple[str, str]:
    present = sorted({name for name, _ in clip.row["slots"]})  # type: ignore[attr-defined]
    absent = [name for name in SLOT_NAMES if name not in present]
    names = present + rng.sample(absent, rng.randint(0, SLOT_DISTRACTORS))
    rng.shuffle(names)
    record = slot_record(clip, names)
    return slot_instruction(dict.fromkeys((n.replace("_", " ") for n in names), "")), json.dumps(
        {name.replace("_", " "): value for name, value in record.items()}
    )


SLOT_NAMES = tuple(
    name
    for line in (
        "date time person place_name event_name artist city playlist music_item device_type house_place",
        "list_name food_type timeofday currency_name color_type business_name object_name song_name",
        "weather_descriptor relation cuisine party_size_number restaurant_type spatial_relation",
    )
    for name in line.split()
)


def weight_of(task: str, stage: str) -> float:
    """How often a stage draws a task; instruction tuning takes any task that a manifest names."""
    return WEIGHTS[stage].get(task, 1.0 if stage == "instruct" else 0.0)


def draw(clip: Clip, stage: str, answers: Mapping[str, str], rng: random.Random) -> Example:
    """One task for a clip, by the stage's weights."""
    possible = _answers(clip, answers, rng)
    weights = {task: weight for task in possible if (weight := weight_of(task, stage))}
    task = rng.choices(list(weights), list(weights.values()))[0]
    return Example(clip, task, *possible[task])


def allowed(clip: Clip, stage: str, answers: Mapping[str, str]) -> bool:
    """Whether the stage has any task for this clip."""
    return any(weight_of(task, stage) for task in _answers(clip, answers, random.Random(0)))
