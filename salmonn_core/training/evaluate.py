"""Measure a model on manifests, greedy decoding, beside whisper-base; a table in Markdown and JSON."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from salmonn_core.model import Salmonn
from salmonn_core.training.config import EvaluateConfig, files_of
from salmonn_core.training.corpus import Clip, load_clips
from salmonn_core.training.manifests import check_audio, read_clip
from salmonn_core.training.measure import MEASURES, Ask, Judged, Question, asked_aloud, judge, scores, short
from salmonn_core.training.metrics import Score, ratio, word_errors
from salmonn_core.training.peer import check_peer

Answers = list[dict[str, str]]
CASCADE = "whisper-base, then the LLM in text"
CASCADE_TOKENS = 64


def chosen(manifest: Path, limit: int | None, seed: int) -> list[Clip]:
    """At most `limit` clips of a manifest, drawn by the seed; every file is looked at first."""
    check_audio([manifest], quiet=True)
    clips = load_clips([manifest])
    random.Random(seed).shuffle(clips)
    return clips[:limit]


def measure_set(name: str, clips: Sequence[Clip], ask: Ask, seed: int) -> tuple[list[Score], Answers]:
    """Scores of one set, and every answer."""
    judged: list[Judged] = [one for clip in tqdm(clips, desc=name) for one in judge(clip, ask)]
    log = [{"path": short(j.clip.path), "task": j.task, "truth": truth(j), "answer": j.answer} for j in judged]
    return scores(name, judged, seed), log


def truth(judged: Judged) -> str:
    row = judged.clip.row
    return str(row.get("answer") or row.get("slots") or row.get("labels") or row.get("text"))


def measure_peer(name: str, clips: Sequence[Clip], transcribe: Callable[[str], str], seed: int) -> list[Score]:
    """whisper-base's word error rate on the clips with a transcript."""
    speech = [clip for clip in clips if clip.kind == "speech" and clip.text]
    pairs = [
        word_errors(str(clip.row["text"]), transcribe(clip.path)) for clip in tqdm(speech, desc=f"{name}, whisper-base")
    ]
    if not pairs:
        return []
    value = ratio([e for e, _ in pairs], [w for _, w in pairs], seed)
    return [Score(name, "transcribe (whisper-base itself)", "WER", len(pairs), *value)]


def measure_cascade(name: str, clips: Sequence[Clip], reply: Callable[[str], str], seed: int) -> list[Score]:
    """What whisper-base's transcript, given to the same LLM in text and without its LoRA, makes of spoken questions.

    Args:
        reply: from a sound file to the answer.
    """
    judged = []
    for clip in tqdm([clip for clip in clips if asked_aloud(clip)], desc=f"{name}, cascade"):
        answer = reply(clip.path)
        marks = [replace(mark, task=f"{mark.task} ({CASCADE})") for mark in MEASURES["QA"].marks(clip, answer)]
        judged.append(Judged(clip, "QA", "", answer, marks))
    return scores(name, judged, seed)


def markdown(table: Iterable[Score]) -> str:
    """The table for people; values in percent."""
    lines = ["| set | task | measure | clips | result | 95 % |", "|---|---|---|---|---|---|"]
    for s in table:
        interval = f"{100 * s.low:.1f} to {100 * s.high:.1f}"
        lines.append(f"| {s.set} | {s.task} | {s.measure} | {s.clips} | {100 * s.value:.1f} % | {interval} |")
    return "\n".join(lines) + "\n"


def salmonn(model: Salmonn) -> Callable[[float], Ask]:
    """The model, asked at a LoRA scale."""
    from salmonn_core import AudioTokens, GenerationOptions

    @lru_cache(maxsize=1)
    def heard(path: str) -> AudioTokens:
        return model.encode(read_clip(path))

    def at(scale: float) -> Ask:
        def ask(path: str, question: Question) -> str:
            options = GenerationOptions(**question.options(scale))
            return "".join(model.stream(heard(path), question.instruction, options)).strip()

        return ask

    return at


def peers(name: str, clips: Sequence[Clip], model: Salmonn, seed: int) -> list[Score]:
    """What whisper-base writes of the same clips, and what the bare LLM answers to that."""
    from salmonn_core import GenerationOptions
    from salmonn_core.training.peer import whisper_base

    transcribe = whisper_base()
    bare = GenerationOptions(CASCADE_TOKENS, lora_scale=0.0)

    def reply(path: str) -> str:
        return "".join(model.stream(None, transcribe(path), bare))

    return measure_peer(name, clips, transcribe, seed) + measure_cascade(name, clips, reply, seed)


def evaluate(config: EvaluateConfig) -> str:
    """Measure everything that the config names, write `table.md` and `table.json`, and return the table."""
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.peer:
        check_peer()  # now, not after all has been measured
    sets = {f"{p.parent.name}/{p.stem}": chosen(p, config.limit, config.seed) for p in files_of(config.sets)}
    model, begun = Salmonn.from_pretrained(config.model, precision=config.precision), time.monotonic()
    ask_at = salmonn(model)
    table: list[Score] = []
    answers: Answers = []
    for name, clips in sets.items():
        found, log = measure_set(name, clips, ask_at(1.0), config.seed)
        table, answers = table + found, answers + log
    if config.peer:
        table += [score for name, clips in sets.items() for score in peers(name, clips, model, config.seed)]
    config.out.mkdir(parents=True, exist_ok=True)
    text = markdown(table) + "\nWER after Whisper's English normalisation.\n"
    (config.out / "table.md").write_text(text)
    result = {
        "model": config.model,
        "seconds": round(time.monotonic() - begun),
        "normaliser": f"whisper-normalizer {version('whisper-normalizer')}",
        "table": [asdict(score) for score in table],
        "answers": answers,
    }
    (config.out / "table.json").write_text(json.dumps(result, indent=1) + "\n")
    if config.lora_scales:
        sweep(config, sets, ask_at)
    return text


def sweep(config: EvaluateConfig, sets: dict[str, list[Clip]], ask_at: Callable[[float], Ask]) -> None:
    """Every score at each LoRA scale: `lora-scale.json`, `.md` and `.png`."""
    found = {
        scale: [s for name, clips in sets.items() for s in measure_set(name, clips, ask_at(scale), config.seed)[0]]
        for scale in config.lora_scales
    }
    rows = [{"lora_scale": scale, **asdict(score)} for scale, table in found.items() for score in table]
    (config.out / "lora-scale.json").write_text(json.dumps(rows, indent=1) + "\n")
    parts = [f"## LoRA scale {scale:g}\n\n{markdown(table)}" for scale, table in found.items()]
    (config.out / "lora-scale.md").write_text("\n".join(parts))
    _draw(found, config.out / "lora-scale.png")


def _draw(found: dict[float, list[Score]], path: Path) -> None:
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[float, float]]] = {}
    for scale, table in sorted(found.items()):
        for score in table:
            lines.setdefault(f"{score.set}: {score.task}, {score.measure}", []).append((scale, score.value))
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="LoRA scale", ylabel="score")
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), "o-", label=name)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path, dpi=120)
