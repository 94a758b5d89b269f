"""Openly licensed sentences to be spoken by synthetic voices: commands with slots, trivia questions, books."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_FILES = ("slurp_devel.jsonl", "nlu_eval_fold1.jsonl", "snips.jsonl")
DEV_PERCENT = 3  # sentences never spoken for training
MAX_WORDS = 16
BOOK_WORDS = (4, 34)  # a sentence of 34 words takes about 14 s
ABBREVIATIONS = {"Mr.": "Mister", "Mrs.": "Missus", "Dr.": "Doctor", "St.": "Saint", "&c.": "et cetera"}


@dataclass(frozen=True)
class Sentence:
    """One sentence with whatever is known of it."""

    text: str
    source: str
    license: str
    intent: str | None = None
    slots: list[list[str]] = field(default_factory=list)
    answer: str | None = None

    @property
    def id(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def split(self) -> str:
        """`train` or `dev`, from the spoken text alone, so that no sentence is in both."""
        digest = hashlib.sha256(("split:" + plain(self.text)).encode()).digest()
        return "dev" if digest[0] * 100 < DEV_PERCENT * 256 else "train"


def plain(text: str) -> str:
    """Lower case, apostrophes kept, other punctuation gone: the form in which transcripts are learned."""
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower().replace("’", "'")).split())


def _speakable(text: str, least: int = 2, most: int = MAX_WORDS) -> bool:
    # Digits are left out: "5" and "five" sound alike, so they would teach two spellings of one sound.
    words = text.split()
    return least <= len(words) <= most and text.isascii() and not re.search(r"[0-9_@/\\<>|&#=+*]", text)


def commands(folder: Path) -> Iterator[Sentence]:
    """Assistant commands of SLURP, NLU-Evaluation-Data and SNIPS with their intents and slots."""
    for name in COMMAND_FILES:
        for line in (folder / name).read_text().splitlines():
            row = json.loads(line)
            yield Sentence(row["text"], row["source"], row["license"], row["intent"], row["slots"])


def questions(folder: Path) -> Iterator[Sentence]:
    """Trivia questions of OpenTriviaQA with their answers."""
    with gzip.open(folder / "opentriviaqa.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            yield Sentence(row["question"], row["source"], row["license"], answer=row["answer"])


def sentences(folder: Path, seed: int = 0) -> list[Sentence]:
    """All speakable sentences, each once, two commands for one question, in a seeded order."""
    rng = random.Random(seed)
    pools = []
    for pool in (commands(folder), questions(folder)):
        unique = {plain(s.text): s for s in pool if _speakable(s.text)}
        pools.append(list(unique.values()))
        rng.shuffle(pools[-1])
    spoken, asked = pools
    merged: list[Sentence] = []
    while spoken or asked:
        merged += [pool.pop() for pool in (spoken, spoken, asked) if pool]
    return merged


def readings(folder: Path, seed: int = 0) -> list[Sentence]:
    """Sentences of the plain-text books in `folder`, each once, in a seeded order.

    Their source is the file's name; `LICENSES.json` in the folder maps each file to its licence.
    """
    licenses: dict[str, str] = json.loads((folder / "LICENSES.json").read_text())
    unique: dict[str, Sentence] = {}
    for book in sorted(folder.glob("*.txt")):
        for text in _book_sentences(book.read_text()):
            if _speakable(text, *BOOK_WORDS):
                unique.setdefault(plain(text), Sentence(text, book.stem, licenses[book.name]))
    pool = list(unique.values())
    random.Random(seed).shuffle(pool)
    return pool


def _book_sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.replace("--", ", ").replace('"', "").replace("_", "").split())
        for short, full in ABBREVIATIONS.items():
            line = line.replace(short, full)
        # A sentence or one of its clauses: books have sentences of a hundred words.
        for sentence in re.split(r"(?<=[.!?])\s+", line):
            yield from [sentence] if len(sentence.split()) <= BOOK_WORDS[1] else re.split(r"(?<=[;:])\s+", sentence)
