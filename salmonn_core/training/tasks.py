"""From clips to (instruction, answer) pairs, by the official task names.

Answers are known by construction: transcripts, captions, labels, slots of the corpus, and for spoken
questions and stories what the base LLM itself answers to the transcript or the caption in text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salmonn_core.namer import MOST_NAMES, SPEECH, VOICES, Names, mentioned
from salmonn_core.prompts import INSTRUCTIONS, with_names, with_transcript
from salmonn_core.training.corpus import WHOLE, Clip, Span
from salmonn_core.training.manifests import Row
from salmonn_core.training.scenes import TOLD_BY_NAMES, label_of
from salmonn_core.training.slots import slot_example
from salmonn_core.training.texts import plain, sentences

# How often each task is drawn for a clip that allows it.
WEIGHTS: dict[str, dict[str, float]] = {
    "letters": {"asr": 1.0},
    "align": {"asr": 1.0, "audiocaption": 1.0},
    "pretrain": {"asr": 1.0, "audiocaption": 1.0},
    "instruct": {"asr": 1.0, "audiocaption": 1.0, "label": 0.8, "kind": 0.25, "slots": 0.8, "QA": 0.5, "story": 0.3},
    "activate": {
        "QA": 1.0,
        "co_reasoning": 1.0,
        "story": 1.0,
        "audiocaption": 0.3,
        "label": 0.3,
        "asr": 0.3,
        "slots": 0.3,
        "kind": 0.1,
    },
}
CUT_SHARE, SHORTEST_CUT = 0.6, 0.5
# How often what the namer hears stands in the prompt, and of which questions.
NAMED_TASKS = frozenset({"audiocaption", "label", "story", "QA", "co_reasoning"})
NAMED_SHARE = 0.7
# How often the words spoken stand in the prompt as text: reading them is easier than hearing them, and the
# assistant can put its own transcript there.
READ_SHARE = {"slots": 0.6, "QA": 0.5}
SCENES_SHARE = 0.4  # of the questions in text alone; the others are for records


@dataclass(frozen=True)
class Example:
    """One training example."""

    clip: Clip
    task: str
    instruction: str
    answer: str
    span: Span = WHOLE  # which part of the clip is heard


def commands_as_text(folder: Path) -> list[Clip]:
    """Commands with slots that nobody spoke, for training in text alone: a tenth of the cost of a spoken one."""
    known = [s for s in sentences(folder) if s.slots and s.split == "train"]
    return [Clip("", "text", plain(s.text), "", {"slots": s.slots}) for s in known]


def text_example(clip: Clip, labels: Sequence[str], rng: random.Random) -> Example:
    """A question in text alone: for the record of a command, or about a scene of which the command is a part.

    Args:
        labels: of the sounds that scenes are made of; without any there are none.
    """
    if len(labels) > MOST_NAMES and rng.random() < SCENES_SHARE:
        return scene_example(clip, labels, rng)
    asked, answer = slot_example(clip, rng)
    return Example(clip, "slots", with_transcript(asked, clip.text), answer)


def scene_example(clip: Clip, labels: Sequence[str], rng: random.Random) -> Example:
    """A question about what sounds in a row, as if the namer had heard it: what it heard, and some that it only may."""
    labels = [label for label in labels if label not in VOICES]
    sounds: list[Row] = [{"kind": "event", "labels": [label]} for label in labels]
    parts, question, answer = rng.choice(TOLD_BY_NAMES)([{"text": clip.text}], sounds, rng)
    if about_a_word(question):
        return Example(clip, "QA", with_transcript(question, clip.text), answer)
    in_order = tuple(label_of(part) if part.get("labels") else SPEECH for part in parts)
    heard = [name for name in in_order if name != SPEECH]
    others = rng.sample([label for label in labels if label not in heard], rng.randint(0, MOST_NAMES - len(heard)))
    rng.shuffle(heard)
    return Example(clip, "QA", with_names(question, Names((*heard, *others), in_order)), answer)


def _answers(clip: Clip, answers: Mapping[str, str], rng: random.Random) -> dict[str, tuple[str, str]]:
    """What each task would ask of this clip, and the answer."""

    def ask(task: str) -> str:
        return rng.choice(INSTRUCTIONS[task])

    if clip.task not in (None, "asr", "audiocaption", "music_description"):
        asked = str(clip.row.get("Q") or ask(clip.task)), str(clip.row["text"])
        words = str(clip.row.get("said") or "") if about_a_word(asked[0]) else ""
        return {clip.task: _read(words, clip.task, asked, rng)}
    found: dict[str, tuple[str, str]] = {"kind": (ask("kind"), _kind(clip))}
    if clip.kind == "speech":
        found["asr"] = (ask("asr"), clip.text or str(clip.row["text"]))
    elif clip.caption:
        music = clip.task == "music_description" or (clip.kind == "music" and rng.random() < 0.5)
        found["audiocaption"] = (ask("music_description" if music else "audiocaption"), naming_caption(clip))
    if clip.kind == "event" and clip.text:
        found["label"] = (ask("label"), clip.text)
    for task in ("QA", "story"):
        if f"{task}:{clip.text}" in answers:
            found[task] = (ask(task), _told(clip, task, answers[f"{task}:{clip.text}"]))
    if clip.row.get("slots"):
        found["slots"] = slot_example(clip, rng)
    words = clip.text if clip.kind == "speech" else ""
    return {task: _read(words, task, asked, rng) for task, asked in found.items()}


def about_a_word(question: str) -> bool:
    """Whether a question is about a single word that was said: "What is the last word?"."""
    return re.search(r"\bword\b", question) is not None


def _read(words: str, task: str, asked: tuple[str, str], rng: random.Random) -> tuple[str, str]:
    """Sometimes the words stand in the prompt as text."""
    share = READ_SHARE.get(task, 0.0) if words else 0.0
    return (with_transcript(asked[0], words), asked[1]) if rng.random() < share else asked


def naming_caption(clip: Clip) -> str:
    """The caption, with the first label added where it names none: "A bird chirps (bird song)."."""
    labels: list[str] = clip.row.get("labels") or []  # type: ignore[assignment]
    if clip.kind != "event" or not labels or any(mentioned(label, clip.caption) for label in labels):
        return clip.caption
    return f"{clip.caption.rstrip('. ')} ({labels[0]})."


def _told(clip: Clip, task: str, answer: str) -> str:
    """A story begins with what was heard unless it says so itself."""
    labels: list[str] = clip.row.get("labels") or []  # type: ignore[assignment]
    if task != "story" or not labels or any(mentioned(label, answer) for label in labels):
        return answer
    return f"{naming_caption(clip)} {answer}"


def _kind(clip: Clip) -> str:
    return {"event": "sound"}.get(clip.kind, clip.kind)


def weight_of(task: str, stage: str) -> float:
    """How often a stage draws a task; instruction tuning takes any task that a manifest names."""
    return WEIGHTS[stage].get(task, 1.0 if stage == "instruct" else 0.0)


def nothing_named(path: str, question: str) -> Names:
    """What is heard of a path, when asked a question, without a namer."""
    return Names()


def draw(
    clip: Clip,
    stage: str,
    answers: Mapping[str, str],
    rng: random.Random,
    names: Callable[[str, str], Names] = nothing_named,
) -> Example:
    """One task for a clip, by the stage's weights.

    Args:
        names: what the namer hears of a path, when asked a question; the prompt often has them, where the task is
            about sounds.
    """
    possible = _answers(clip, answers, rng)
    weights = {task: weight for task in possible if (weight := weight_of(task, stage))}
    task = rng.choices(list(weights), list(weights.values()))[0]
    asked, answer = possible[task]
    if task in NAMED_TASKS and rng.random() < NAMED_SHARE and (heard := names(clip.path, asked)):
        asked = with_names(asked, heard)
    span = WHOLE
    if clip.task is None and clip.kind != "speech" and rng.random() < CUT_SHARE:
        length = rng.uniform(SHORTEST_CUT, 1.0)  # any part of a sound is the same sound, and there are few sounds
        span = (start := rng.uniform(0.0, 1.0 - length), start + length)
    return Example(clip, task, asked, answer, span)


def allowed(clip: Clip, stage: str, answers: Mapping[str, str]) -> bool:
    """Whether the stage has any task for this clip."""
    return any(weight_of(task, stage) for task in _answers(clip, answers, random.Random(0)))
