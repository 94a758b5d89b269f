"""A training set from its sources by one config: every part is resumable, every entry keeps source and licence."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from salmonn_core.config import SAMPLE_RATE
from salmonn_core.loading import float_type, load_llm
from salmonn_core.training.answers import answer_all, wanted
from salmonn_core.training.augment import at_peak, augment, mix
from salmonn_core.training.config import Answers, Mix, Music, PrepareConfig, Scenes, Speak, files_of
from salmonn_core.training.corpora import entries
from salmonn_core.training.corpus import load_clips
from salmonn_core.training.coverage import rarest_first, word_lists, words_heard
from salmonn_core.training.manifests import Row, check_audio, read_clip, read_manifest
from salmonn_core.training.music import FONT_LICENSES, compose, render, soundfont
from salmonn_core.training.scenes import aloud, check_parts, over, scene, usable
from salmonn_core.training.speak import every_voice, speak_all, takes
from salmonn_core.training.texts import Sentence, plain, readings, sentences
from salmonn_core.training.voices import Kokoro, Piper
from salmonn_core.weights.sources import locate

# What of a speech entry does not hold for a mixture made from it.
NOT_KEPT = ("path", "text_raw", "text_cased", "duration_s", "id")


def prepare(config: PrepareConfig) -> None:
    """Make what is missing of a training set, and say in LICENSES.md whose it is."""
    out = config.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    for corpus in config.corpora:
        rows = entries(corpus)
        write_manifest(out / f"{corpus.name}.jsonl", rows)
        check_audio([out / f"{corpus.name}.jsonl"])
    for part in config.speak:
        _speak(part, out, config.seed)
    if config.music:
        _music(config.music, out, config.seed)
    for number, mixtures in enumerate(config.mix):
        _mix(mixtures, out, f"mix{number}-train-speech", config.seed)
    for questions in config.scenes:
        _scenes(questions, out, config.seed)
    for copy in config.augment:
        sounds = _rows(copy.sounds) if copy.sounds else []
        for manifest in files_of([copy.manifest]):
            augment(manifest, sounds, out, copy.name, config.seed)
    if config.answers:
        _answers(config.answers, out)
    write_licenses(out)


def write_manifest(path: Path, rows: list[Row]) -> None:
    """JSON lines, complete or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.rename(path)


def _rows(pattern: str) -> list[Row]:
    return [row for manifest in files_of([pattern]) for row in read_manifest(manifest)]


def _speak(part: Speak, out: Path, seed: int) -> None:
    kind = "books-" if part.books else "aloud-" if part.aloud else "words-" if part.words else ""
    covering = "rare-" if part.cover and not part.words else ""
    manifest = out / f"{part.engine}-{covering}{kind}{part.split}-speech.jsonl"
    if part.cover and manifest.exists() and len(read_manifest(manifest)) >= part.count:
        return  # chosen by what there was then; now there is more
    speaker = _speaker(part)
    voices = speaker.voices if isinstance(speaker, Piper) else ()
    if part.aloud:
        plan = list(islice(every_voice(part.engine, part.split, aloud(), seed, voices), part.count))
    else:
        plan = list(takes(part.engine, part.split, _pool(part, manifest, seed), seed, voices))
        plan = plan[part.skip : part.skip + part.count]
    speak_all(plan, out, manifest, speaker)


def _speaker(part: Speak) -> Kokoro | Piper | None:
    """The voices that a part's engine loads; flite and espeak-ng are programs."""
    if part.engine == "kokoro" and part.kokoro:
        return Kokoro(part.kokoro)
    if part.engine == "piper" and part.piper:
        return Piper(part.piper)
    return None


def _pool(part: Speak, manifest: Path, seed: int) -> list[Sentence]:
    """The sentences of a part in the order in which they are wanted."""
    # What an interrupted run has made stays wanted.
    spoken = [path for path in files_of(part.cover) if path != manifest]
    texts = [str(row["text"]) for path in spoken for row in read_manifest(path) if row.get("text")]
    heard, done = words_heard(texts), set(texts)
    if part.words:
        pool = word_lists(heard, seed)
    elif part.texts:
        pool = sentences(part.texts)
    else:
        pool = readings(part.books)  # type: ignore[arg-type]
    fresh = [s for s in pool if s.split == part.split and plain(s.text) not in done]
    # Lists are made for the words that are missing, whatever their order.
    return rarest_first(fresh, heard, part.skip + part.count) if part.cover and not part.words else fresh


def make(out: Path, name: str, count: int, one: Callable[[int], tuple[np.ndarray, Row]]) -> None:
    """Example after example into `name/` and `name.jsonl`; those of an earlier run are kept."""
    (out / name).mkdir(parents=True, exist_ok=True)
    manifest = out / f"{name}.jsonl"
    text = manifest.read_text() if manifest.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # a line that was cut off is written again
    manifest.write_text(whole)
    done = len(whole.splitlines())
    with manifest.open("a", buffering=1) as lines:
        for number in tqdm(range(done, count), desc=name, initial=min(done, count), total=count):
            wave, entry = one(number)
            path = f"{name}/{number:06d}.flac"
            soundfile.write(out / path, wave, SAMPLE_RATE, format="FLAC")
            lines.write(json.dumps({"path": path, "duration_s": round(len(wave) / SAMPLE_RATE, 3)} | entry) + "\n")


def _music(config: Music, out: Path, seed: int) -> None:
    fonts = [soundfont(wanted) for wanted in config.soundfonts or (None,)]

    def one(number: int) -> tuple[np.ndarray, Row]:
        font = fonts[number % len(fonts)]
        midi, facts = compose(random.Random(f"{seed} music {number}"), config.seconds)
        license_ = f"composed by a program; sound font {FONT_LICENSES.get(font.stem, 'licence not known')}"
        known: Row = {"kind": "music", "source": f"rendered with {font.stem}", "license": license_}
        return render(midi, font, config.seconds), known | facts

    make(out, "music-train-music", config.count, one)


def _mix(config: Mix, out: Path, name: str, seed: int) -> None:
    speech, sounds = _rows(config.speech), [row for row in _rows(config.sounds) if row.get("labels")]

    def one(number: int) -> tuple[np.ndarray, Row]:
        rng = random.Random(f"{seed} {name} {number}")
        said, heard, level = rng.choice(speech), rng.choice(sounds), round(rng.uniform(*config.snr_db), 1)
        wave = at_peak(mix(read_clip(str(said["path"])), read_clip(str(heard["path"])), level))
        known: Row = {k: v for k, v in said.items() if k not in NOT_KEPT}
        return wave, known | {
            "kind": "speech",
            "snr_db": level,
            "background": heard["labels"],
            "background_source": heard.get("source"),
            "background_license": heard.get("license"),
        }

    make(out, name, config.count, one)


def _scenes(config: Scenes, out: Path, seed: int) -> None:
    sounds = usable(_rows(config.sounds), speech=False)
    if config.aloud:
        asked = _rows(config.aloud)

        def one(number: int) -> tuple[np.ndarray, Row]:
            rng = random.Random(f"{seed} {config.name} {number}")
            return over(rng.choice(asked), rng.choice(sounds), round(rng.uniform(*config.snr_db), 1), rng)

        make(out, config.name, config.count, one)
    else:
        speech = usable(_rows(str(config.speech)), speech=True)
        check_parts(speech, sounds, config.name)
        draws = (random.Random(f"{seed} {config.name} {number}") for number in range(config.count))
        write_manifest(out / f"{config.name}.jsonl", [scene(speech, sounds, rng, i) for i, rng in enumerate(draws)])


def _answers(config: Answers, out: Path) -> None:
    """Answer keys as they are, and the base LLM's own answers to what has none; those there already are kept."""
    file = out / "answers.json"
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    clips = load_clips(sorted(out.glob("*-train-*.jsonl")))
    random.Random(0).shuffle(clips)
    keys = {f"QA:{c.text}": f"{c.row['answer']}." for c in clips if c.row.get("answer")}
    jobs = [job for job in wanted(clips, config.questions, config.stories) if job[0] not in known]
    answers = known | keys
    if jobs:
        answers |= answer_all(*load_llm(locate(config.llm), float_type("cpu", "auto")), jobs)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(answers, indent=0))
    partial.rename(file)


def write_licenses(out: Path) -> None:
    """LICENSES.md: how many clips and minutes of each source under each licence."""
    clips: Counter[tuple[str, str]] = Counter()
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for manifest in sorted(out.glob("*.jsonl")):
        for row in read_manifest(manifest):
            for prefix in ("", "background_"):
                if prefix and not row.get("background"):
                    continue
                key = (
                    str(row.get(f"{prefix}source") or "not stated"),
                    str(row.get(f"{prefix}license") or "not stated"),
                )
                clips[key] += 1
                seconds[key] += float(row.get("duration_s") or 0.0)  # type: ignore[arg-type]
    lines = ["# Licences of this training set", "", "| source | licence | clips | minutes |", "|---|---|---|---|"]
    lines += [f"| {s} | {li} | {n} | {seconds[s, li] / 60:.1f} |" for (s, li), n in sorted(clips.items())]
    (out / "LICENSES.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
