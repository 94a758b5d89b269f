"""What the bundled skills can be relied on for with a model: the table in docs/skills.md.

    python -m benchmarks.skills ../shared/data/dev --slots SPOKEN.jsonl --page docs/skills.md --out docs/skills.json

Needs `sound.jsonl` (labels, captions) and `speech.jsonl` (texts) in the folder, and for slots a manifest whose rows
have `slots`, such as `python -m salmonn_core.training` makes of annotated commands. Every clip goes through the skills
as in the loop. With --page the table between the page's marks is written anew; with --out every answer is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from assistant_plugins import slot_schema, sound_alerts, wake
from rich.progress import track

from assistant.commands.ask import window_of
from assistant.core import Core, load_core
from assistant.errors import UserError
from assistant.events import Responded
from assistant.plugin_host import PluginHost
from assistant.profile import Profile, load
from assistant.records import Response
from assistant.turns import Turns

BEGIN, END = "<!-- measured by benchmarks.skills -->", "<!-- end of what was measured -->"
# Name: beginnings of words in a description, and the label of the clips that have it.
ALERTS = {
    "rain": ("rain",),
    "clock": ("clock", "tick"),
    "baby": ("baby", "babies", "infant"),
    "dog bark": ("bark",),
    "thunder": ("thunder",),
    "rooster": ("rooster", "crow"),
    "chainsaw": ("chainsaw",),
    "doorbell": ("doorbell", "bell"),
}
LIKENESS = (1.0, 0.8, 0.7)  # of a wake phrase
SENTENCE = 4  # words
COPY = 0.8  # an answer so alike to the transcript says nothing of its own
MUSIC = re.compile(r"music|song|melod|tune|band|orchestra|instrument|guitar|piano|drum|violin|sing", re.IGNORECASE)
DISTRACTORS = 3  # fields that were not said are asked for, too
Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        right, of: what should have been told, and was.
        false, others: what should not, and was.
    """

    what: str
    right: int
    of: int
    false: int = 0
    others: int = 0

    @property
    def verdict(self) -> str:
        """By fixed rules, so that nobody's hope is in it."""
        hit, miss = self.right / max(1, self.of), self.false / max(1, self.others)
        if self.of < 5:
            return "too few clips to say"
        if hit < 0.6 or miss > 0.25:
            return "not to be relied on"
        return "usable" if miss <= 0.02 else "usable where a false one does not matter"


@dataclass
class Answers:
    """A conversation with the bundled skills, and everything that was said in it."""

    core: Core
    profile: Profile
    kept: list[Row] = field(default_factory=list)

    def ask(self, path: Path, skill: str, **settings: Any) -> Response:
        """The last answer of a skill about a file, in a conversation of its own."""
        profile = self.profile.model_copy(update={"plugins": {**self.profile.plugins, **settings}})
        host = PluginHost(profile, _report, safe=True)
        turns = Turns(self.core, host, profile)
        events = turns.answer(window_of(str(path), 1), host.skill(skill))
        *_, last = (event.response for event in events if isinstance(event, Responded))
        turns.close()
        self.kept.append({"file": path.name, "skill": skill, "text": last.text, "slots": last.slots})
        return last


def _report(plugin: str, message: str) -> None:
    print(f"plugin {plugin} {message}", file=sys.stderr)


def alerts(answers: Answers, clips: Sequence[Row]) -> Iterator[Result]:
    """How often each sound is named in its own clips and in others."""
    told = [
        (row["labels"], answers.ask(row["path"], "sound-alerts").text)
        for row in track(clips, "sounds", disable=not sys.stderr.isatty())
    ]
    for name, words in ALERTS.items():
        alert = sound_alerts.Alert(words=words)
        own = [sound_alerts.names(alert, text) for labels, text in told if _has(labels, name)]
        others = [sound_alerts.names(alert, text) for labels, text in told if not _has(labels, name)]
        yield Result(f"alert: {name}", sum(own), len(own), sum(others), len(others))


def _has(labels: Sequence[str], name: str) -> bool:
    return any(set(name.split()) <= set(label.split()) for label in labels)  # "rain" is in no "train"


def phrases(answers: Answers, clips: Sequence[Row], rng: random.Random) -> Iterator[Result]:
    """Two words of each sentence as a wake phrase, looked for in its own transcript and in the others'."""
    heard = [
        re.findall(r"[\w']+", answers.ask(row["path"], "transcribe").text.lower())
        for row in track(clips, "wake phrases", disable=not sys.stderr.isatty())
    ]
    wanted = [_two_words(row["text"], rng) for row in clips]
    for likeness in LIKENESS:
        settings = [wake.Settings(phrases=(phrase,), likeness=likeness) for phrase in wanted]
        woke = [
            (i == j, wake.after_phrase(words, settings[i]) is not None)
            for i, phrase in enumerate(wanted)
            for j, words in enumerate(heard)
            if i == j or phrase not in clips[j]["text"]
        ]
        own, others = [w for mine, w in woke if mine], [w for mine, w in woke if not mine]
        yield Result(f"wake phrase of two words, `likeness` {likeness:g}", sum(own), len(own), sum(others), len(others))


def _two_words(text: str, rng: random.Random) -> str:
    words = text.split()
    at = rng.randrange(max(1, len(words) - 1))
    return " ".join(words[at : at + 2])


def slots(answers: Answers, commands: Sequence[Row], most: int, rng: random.Random) -> Iterator[Result]:
    """Free text: values exactly as annotated, and fields that nobody said left empty."""
    names = sorted({_spoken(name) for row in commands for name, _ in row["slots"]})
    clips = _some(commands, most, rng)
    right = said = empty = unsaid = filled = 0
    for row in track(clips, "slots", disable=not sys.stderr.isatty()):
        gold = {_spoken(name): value for name, value in reversed(row["slots"])}
        rest = [name for name in names if name not in gold]
        fields = [*gold, *rng.sample(rest, min(DISTRACTORS, len(rest)))]
        rng.shuffle(fields)
        schema = slot_schema.Schema.model_validate(dict.fromkeys(fields, "text"))
        record = answers.ask(row["path"], "slot-filling", **{"slot-filling": {"schema": schema}}).slots or {}
        right += sum(_plain(record.get(name)) == _plain(value) for name, value in gold.items())
        filled += sum(value is not None for value in record.values())
        empty += sum(record.get(name) is None for name in fields if name not in gold)
        said, unsaid = said + len(gold), unsaid + len(fields) - len(gold)
    yield Result("slots: values exactly as said", right, said)
    yield Result("slots: of the values filled in, right", right, filled)
    yield Result("slots: fields that were not said left empty", empty, unsaid)


def _spoken(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").lower()


def _plain(value: Any) -> str:
    return " ".join(re.findall(r"[\w']+", str(value).lower()))


def kinds(answers: Answers, clips: Sequence[Row], kind: str) -> Result:
    """Captions ask the model which of both a window is."""
    right = sum(_is_tag(answers.ask(row["path"], "captions").text) == (kind == "sound") for row in clips)
    return Result(f"captions: {kind} taken for {kind}", right, len(clips))


def _is_tag(caption: str) -> bool:
    return caption.startswith("[")


def music(answers: Answers, clips: Sequence[Row]) -> Result:
    right = sum(bool(MUSIC.search(answers.ask(row["path"], "music").text)) for row in clips)
    return Result("music described as music", right, len(clips))


def own_words(answers: Answers, clips: Sequence[Row], skill: str) -> Result:
    """Answers that are not just the transcript once more."""
    pairs = [(answers.ask(row["path"], skill).text.lower(), row["text"].lower()) for row in clips]
    own = sum(bool(said) and SequenceMatcher(None, said, text).ratio() < COPY for said, text in pairs)
    return Result(f"{skill}: more than a transcript", own, len(pairs))


def measure(core: Core, data: Path, spoken: Path | None, most: int, seed: int) -> tuple[list[Result], list[Row]]:
    """Everything, on at most `most` clips of sounds and a quarter of that of speech."""
    rng = random.Random(seed)
    answers = Answers(core, load("default"))
    sounds, speech = read(data / "sound.jsonl"), read(data / "speech.jsonl")
    played = [row for row in sounds if "music" in row["labels"]]
    noises = _some([row for row in sounds if "music" not in row["labels"]], most, rng)
    talk, few = _some(speech, most // 4, rng), max(2, most // 20)
    sentences = [row for row in talk if len(row["text"].split()) >= SENTENCE]  # of one word nothing else can be said
    found = [
        *alerts(answers, noises),
        *phrases(answers, talk, rng),
        kinds(answers, talk[:few], "speech"),
        kinds(answers, noises[:few], "sound"),
        music(answers, _some(played, few, rng)),
        *(own_words(answers, sentences[:few], skill) for skill in ("keywords", "translate", "summary", "spoken-qa")),
    ]
    if spoken:
        found += slots(answers, [row for row in read(spoken) if row.get("slots")], most // 5, rng)
    return found, answers.kept


def read(manifest: Path) -> list[Row]:
    """The rows of a manifest, with whole paths.

    Raises:
        UserError: no such file.
    """
    if not manifest.exists():
        raise UserError(f"{manifest} is missing; the benchmark needs sound.jsonl, speech.jsonl and clips with slots")
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return [row | {"path": manifest.parent / row["path"]} for row in rows]


def _some(rows: Sequence[Row], most: int, rng: random.Random) -> list[Row]:
    return rng.sample(list(rows), min(most, len(rows)))


def table(found: Sequence[Result], model: str, minutes: float, seed: int) -> str:
    """Markdown."""
    lines = [
        f"`{model}`, bundled settings, seed {seed}, {minutes:.0f} minutes:",
        "",
        "| what | right | false | so |",
        "|---|---|---|---|",
    ]
    for row in found:
        false = f"{row.false} of {row.others}" if row.others else ""
        lines.append(f"| {row.what} | {row.right} of {row.of} | {false} | {row.verdict} |")
    return "\n".join(lines)


def write_into(page: Path, text: str) -> None:
    """Put the table between the page's marks.

    Raises:
        UserError: it has none.
    """
    old = page.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        raise UserError(f"{page} has no place for the table: a line {BEGIN} and a line {END}")
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with sound.jsonl and speech.jsonl")
    parser.add_argument("--slots", type=Path, help="manifest of spoken commands with slots")
    parser.add_argument("--profile", default="default", help="whose model is asked")
    parser.add_argument("--clips", type=int, default=200, help="of sounds, at most; 200 take some minutes on a core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="page whose table is written anew")
    parser.add_argument("--out", type=Path, help="JSON file for every answer")
    options = parser.parse_args()
    try:
        begun = time.monotonic()
        core = load_core(load(options.profile).core)
        found, kept = measure(core, options.data, options.slots, options.clips, options.seed)
        text = table(found, core.name, (time.monotonic() - begun) / 60, options.seed)
        print(text)
        if options.page:
            write_into(options.page, text)
        if options.out:
            content = {"model": core.name, "seed": options.seed, "results": [asdict(r) for r in found], "answers": kept}
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except UserError as error:
        print(f"benchmarks.skills: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
