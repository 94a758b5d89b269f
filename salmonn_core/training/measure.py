"""What each task asks of a clip, and what counts as right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from salmonn_core.namer import mentioned
from salmonn_core.prompts import INSTRUCTIONS, READING_WEIGHT, WORDS_HERE, said_here, slot_instruction, transcript_limit
from salmonn_core.training.corpus import MAX_CLIP_S, Clip
from salmonn_core.training.metrics import Score, families, holds, ratio, repeats, slots_right, word_errors
from salmonn_core.training.slots import slot_record, unseen_schema
from salmonn_core.training.tasks import about_a_word


@dataclass(frozen=True)
class Question:
    """What is asked of a clip, in the way that the skill for it asks: the others are `GenerationOptions`."""

    instruction: str
    max_new_tokens: int
    pattern: str | None = None
    spot: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reading_weight: float = 0.0
    words_first: bool = False
    names_first: bool = False
    heard_first: bool = False
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    lora_scale: float = 1.0

    def options(self, lora_scale: float) -> dict[str, Any]:
        """The settings of the answer, by the names of `GenerationOptions`, at a share of the skill's own LoRA scale."""
        settings = {name: value for name, value in asdict(self).items() if name != "instruction"}
        return settings | {"lora_scale": lora_scale * self.lora_scale}


Ask = Callable[[str, Question], str]  # a clip's path and the question, to the answer
SLOT_VALUE = f'("{WORDS_HERE}"|null)'
STORY_WORDS, STORY_SCALE = 15, 0.5
TEMPI = ("slow", "medium", "fast")
ESC_10 = frozenset(
    {"chainsaw", "clock tick", "crying baby", "dog bark", "fire crackling", "helicopter"}
    | {"rain", "rooster crow", "sea waves", "sneeze"}
)


@dataclass(frozen=True)
class Mark:
    """One clip's part of one score: value is sum(part) / sum(whole)."""

    task: str
    measure: str
    part: float
    whole: float = 1.0


@dataclass(frozen=True)
class Judged:
    """One answer and its marks."""

    clip: Clip
    task: str
    instruction: str
    answer: str
    marks: list[Mark]


def judge(clip: Clip, ask: Ask) -> Iterator[Judged]:
    """Everything that can be asked of a clip whose truth its manifest knows."""
    for task, measure in MEASURES.items():
        if measure.allows(clip):
            question = measure.question(clip)
            answer = ask(clip.path, question)
            yield Judged(clip, task, question.instruction, answer, list(measure.marks(clip, answer)))


@dataclass(frozen=True)
class Measure:
    """When a task can be measured, how it is asked, and how its answer is marked."""

    allows: Callable[[Clip], object]
    question: Callable[[Clip], Question]
    marks: Callable[[Clip, str], Iterator[Mark]]


def _asks(
    task: str, limit: int, pattern: str | None = None, names_first: bool = False, penalty: float = 1.0
) -> Callable[[Clip], Question]:
    """Args: penalty: of the skill for the task; without it a greedy answer goes round in circles."""

    def question(clip: Clip) -> Question:
        own = clip.row.get("Q") if clip.task == task else None
        asked = str(own or INSTRUCTIONS[task][0])
        return Question(asked, limit, pattern, names_first=names_first, repetition_penalty=penalty)

    return question


def _transcript_question(clip: Clip) -> Question:
    limit = transcript_limit(float(clip.row.get("duration_s") or MAX_CLIP_S))  # type: ignore[arg-type]
    return Question(INSTRUCTIONS["asr"][0], limit, reading_weight=READING_WEIGHT)


def _transcribed(clip: Clip, answer: str) -> Iterator[Mark]:
    errors, words = word_errors(str(clip.row["text"]), answer)
    yield Mark("transcribe", "WER", errors, words)


def _labels(clip: Clip) -> list[str]:
    return list(clip.row.get("labels") or ())  # type: ignore[call-overload]


def _is_labelled(clip: Clip) -> bool:
    return clip.kind == "event" and bool(_labels(clip))


def _captioned(clip: Clip, answer: str) -> Iterator[Mark]:
    yield from _named(clip, answer, "in its caption")


def _labelled(clip: Clip, answer: str) -> Iterator[Mark]:
    yield from _named(clip, answer, "asked for its name")


def _named(clip: Clip, answer: str, how: str) -> Iterator[Mark]:
    right = any(mentioned(label, answer) for label in _labels(clip))
    yield Mark("name the sound", f"a label named, {how}", right)
    if ESC_10 & set(_labels(clip)):
        yield Mark("name the sound", f"of the ten ESC-10 classes, {how}", right)


def _instruments(clip: Clip) -> set[str]:
    """The families of a clip's instruments, by its list of them or, where it has none, its labels."""
    return families(", ".join(clip.row.get("instruments") or _labels(clip)))  # type: ignore[arg-type]


def _music(clip: Clip, answer: str) -> Iterator[Mark]:
    if played := _instruments(clip):
        yield Mark("describe music", "instrument family right", bool(played & families(answer)))
    tempo = str(clip.row.get("tempo") or "")
    if tempo in TEMPI:
        yield Mark("describe music", "tempo class right", mentioned(tempo, answer))


def _kind(clip: Clip, answer: str) -> Iterator[Mark]:
    kind = "sound" if clip.kind == "event" else clip.kind
    yield Mark("speech, sound or music", "accuracy", answer.strip().lower().startswith(kind))


def _slot_names(clip: Clip) -> list[str]:
    slots: list[list[str]] = clip.row["slots"]  # type: ignore[assignment]
    return list(dict.fromkeys(name for name, _ in slots))


def _slot_question(clip: Clip) -> Question:
    fields = [name.replace("_", " ") for name in _slot_names(clip)]
    return _record_question(dict.fromkeys(fields, ""), dict.fromkeys(fields, SLOT_VALUE))


def _record_question(fields: dict[str, str], values: dict[str, str]) -> Question:
    """Args: fields: names and what they mean; values: the pattern of each one's value."""
    pairs = (f'"{re.escape(name)}": {value}' for name, value in values.items())
    return Question(slot_instruction(fields), 96, r"\{" + ", ".join(pairs) + r"\}", words_first=True)


def _record(answer: str) -> dict[str, object]:
    try:
        return dict(json.loads(answer))
    except json.JSONDecodeError:  # cut off at the limit: no value of it counts
        return {}


def _slots(clip: Clip, answer: str) -> Iterator[Mark]:
    wanted = {k.replace("_", " "): v for k, v in slot_record(clip, _slot_names(clip)).items()}
    right, given, true = slots_right(wanted, _record(answer))
    yield Mark("slot filling", "slot F1", 2.0 * right, given + true)
    yield Mark("slot filling", "whole record", right == given == true)


def _unseen_question(clip: Clip) -> Question:
    fields, _ = unseen_schema(clip)
    listed = {name: ", ".join(values) for name, values in fields.items()}
    return replace(_record_question(listed, {name: said_here(name) for name in fields}), spot=fields)


def _unseen(clip: Clip, answer: str) -> Iterator[Mark]:
    yield Mark("slot filling, unseen schema", "whole record", _record(answer) == unseen_schema(clip)[1])


def _spoken_question(clip: Clip) -> Question:
    if clip.task == "co_reasoning":
        return _asks("co_reasoning", 64, names_first=True)(clip)
    # A question that the manifest asks is about what is heard, mostly sounds; one that is spoken, about its words.
    asked = clip.row.get("Q")
    about_words = asked is None or about_a_word(str(asked))
    penalty = 1.1 if asked is None else 1.0
    return replace(_asks("QA", 64, penalty=penalty)(clip), words_first=about_words, names_first=not about_words)


def _answered(clip: Clip, answer: str) -> Iterator[Mark]:
    key = clip.row.get("answer") or (clip.row["text"] if clip.task in ("QA", "co_reasoning") else None)
    task = "spoken questions" if clip.row.get("Q") is None else "questions about what was heard"
    task = "co-reasoning" if clip.task == "co_reasoning" else task
    yield Mark(task, "right on the key", holds(str(key), answer))
    yield Mark(task, "following rate", bool(answer.strip()) and not repeats(answer, clip.text))


def _story_question(clip: Clip) -> Question:
    asked = _asks("story", 120, names_first=True, penalty=1.15)(clip)
    return replace(asked, heard_first=True, min_new_tokens=40, lora_scale=STORY_SCALE)


def _told(clip: Clip, answer: str) -> Iterator[Mark]:
    yield Mark("story", "following rate", len(answer.split()) >= STORY_WORDS and not repeats(answer, clip.text))
    yield Mark("story", "mentions what was heard", any(mentioned(label, answer) for label in _labels(clip)))


def _exact(clip: Clip, answer: str) -> Iterator[Mark]:
    assert clip.task is not None
    yield Mark(clip.task, "answer holds the key", holds(str(clip.row["text"]), answer))


def _other(clip: Clip) -> bool:
    return clip.task in ("gender_recognition", "emotion_recognition", "speaker_verification")


def _other_question(clip: Clip) -> Question:
    assert clip.task is not None
    return _asks(clip.task, 24, names_first=True)(clip)


MEASURES = {
    "asr": Measure(lambda c: c.kind == "speech" and c.text, _transcript_question, _transcribed),
    "audiocaption": Measure(_is_labelled, _asks("audiocaption", 48, names_first=True), _captioned),
    "label": Measure(_is_labelled, _asks("label", 16, names_first=True), _labelled),
    "music_description": Measure(
        lambda c: c.kind == "music" and (_instruments(c) or c.row.get("tempo")),
        _asks("music_description", 60, names_first=True, penalty=1.1),
        _music,
    ),
    "kind": Measure(lambda c: c.row.get("kind"), _asks("kind", 4, "(speech|sound|music)"), _kind),
    "slots": Measure(lambda c: c.row.get("slots"), _slot_question, _slots),
    "unseen": Measure(lambda c: c.kind == "speech" and unseen_schema(c)[0], _unseen_question, _unseen),
    "QA": Measure(lambda c: c.row.get("answer") or c.task in ("QA", "co_reasoning"), _spoken_question, _answered),
    "story": Measure(_is_labelled, _story_question, _told),
    "other": Measure(_other, _other_question, _exact),
}


def asked_aloud(clip: Clip) -> bool:
    """Whether somebody asks a question in the clip, so that a recogniser and an LLM in text could try too."""
    return bool(MEASURES["QA"].allows(clip)) and clip.row.get("Q") is None


def scores(name: str, judged: Sequence[Judged], seed: int) -> list[Score]:
    """The table's lines of one set, each with a 95 % interval over its clips."""
    marks: dict[tuple[str, str], list[Mark]] = {}
    for mark in (mark for one in judged for mark in one.marks):
        marks.setdefault((mark.task, mark.measure), []).append(mark)
    return [
        Score(name, task, measure, len(found), *ratio([m.part for m in found], [m.whole for m in found], seed))
        for (task, measure), found in marks.items()
    ]


def short(path: str) -> str:
    """A file's name without its folder, for logs that leave the machine."""
    return Path(path).name
