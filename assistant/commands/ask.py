"""`assistant ask`: one answer a file; a bad file costs only itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from assistant.audio.background import SILENCE_DBFS, level_dbfs
from assistant.audio.source import FileSource, read_wave
from assistant.commands.output import complain, print_json
from assistant.commands.setup import make_turns
from assistant.core import Core
from assistant.errors import UserError
from assistant.events import ActionTaken, ErrorRaised, Event, Listening, Responded, WindowClosed, WindowDropped
from assistant.history import HistoryWriter
from assistant.plugin_host import PluginHost
from assistant.profile import Profile, load
from assistant.records import SAMPLE_RATE, AudioWindow, Skill, question_of_ones_own
from assistant.together import ManyCore, side_by_side
from assistant.turns import Turns

SILENT_DBFS = -75.0
SIDE_BY_SIDE = 16  # files; more gain little, and each has plugins of its own
LIMIT_SAMPLES = 30 * SAMPLE_RATE


def window_of(path: str, number: int) -> AudioWindow:
    """A file's first thirty seconds as one window; what kind it is, the model says later.

    Raises:
        UserError: unreadable, or silent.
    """
    wave = read_wave(path)
    level = level_dbfs(wave)
    if level < SILENT_DBFS:
        shown = "digital silence" if level <= SILENCE_DBFS else f"{level:.0f} dBFS"
        raise UserError(f"{path} is silent ({shown}); there is nothing to hear in it")
    if len(wave) > LIMIT_SAMPLES:
        complain(f"{path} is longer than 30 s: only the beginning is heard (for all of it: assistant listen -i FILE)")
        wave = wave[:LIMIT_SAMPLES]
    return AudioWindow(number, wave, "sound", 0.0, "end_of_file", level, path)


def rows(
    files: list[str], turns: Turns, skill: Skill | None, prompt: str | None, keep: HistoryWriter | None = None
) -> Iterator[dict[str, Any]]:
    """Answer each file as if it were alone, several side by side; what went wrong with one is told, and costs only it.

    A skill that asks on gives a file more than one row. The rows come in the order of the files.
    """
    jobs = [_Job(path, number, turns.profile, skill, prompt, keep) for number, path in enumerate(files, 1)]
    if keep is not None or len(files) == 1 or not isinstance(turns.core, ManyCore):
        # The history hears one session after the other.
        for job in jobs:
            yield from job(turns.core, turns.host)
        return
    others = [turns.host.beside() for _ in files[1:SIDE_BY_SIDE]]
    for found in side_by_side(turns.core, [turns.host, *others], jobs):
        yield from found
    for host in others:
        host.close()


@dataclass(frozen=True)
class _Job:
    """A file and what is asked about it; called, the rows of its answers, none if it cannot be heard."""

    path: str
    number: int
    profile: Profile
    skill: Skill | None
    prompt: str | None
    keep: HistoryWriter | None

    def __call__(self, core: Core, host: PluginHost) -> list[dict[str, Any]]:
        host.start_over()
        turns = Turns(core, host, self.profile)
        try:
            window = window_of(self.path, self.number)
        except UserError as error:
            complain(str(error))
            return []
        if self.keep:
            announce(window, turns, self.keep)
        return _rows(self.path, turns.answer(window, self.skill, self.prompt), self.keep)


def _rows(path: str, events: Iterator[Event], keep: HistoryWriter | None) -> list[dict[str, Any]]:
    """A row for each answer, with what was done about it."""
    found: list[dict[str, Any]] = []
    try:
        for event in events:
            if keep:
                keep(event)  # and it prints what went wrong
            elif isinstance(event, ErrorRaised):
                complain(event.message)
            if isinstance(event, WindowDropped):
                complain(f"{path} was not answered: {event.reason}")
            elif isinstance(event, ActionTaken):
                found[-1]["actions"].append({"kind": event.kind, "values": dict(event.values)})
            elif isinstance(event, Responded):
                found.append(_row(path, event))
    except UserError as error:
        complain(f"{path}: {error}")
    return found


def _row(path: str, event: Responded) -> dict[str, Any]:
    said = event.as_dict()
    kept: dict[str, Any] = {
        key: said[key] for key in ("skill", "prompt", "words", "text", "audio_s", "slots") if key in said
    }
    return {
        "file": path,
        **kept,
        "lora_scale": said["lora_scale"],
        "timings_ms": said["timings_ms"],
        "actions": [],
    }


def announce(window: AudioWindow, turns: Turns, keep: HistoryWriter) -> None:
    """Tell the history what it hears of a session by itself. The sound is not kept again: the file is there."""
    keep(Listening(source=window.source, profile=turns.profile.name, model=turns.core.name))
    keep(
        WindowClosed(
            window=window.id,
            kind=window.kind,
            reason=window.end,
            start_s=window.start_s,
            duration_s=window.duration_s,
            level_dbfs=window.level_dbfs,
        )
    )


def run(
    files: list[str],
    skill: str | None,
    prompt: str | None,
    profile: str,
    as_json: bool,
    safe: bool,
    keep: bool = False,
) -> None:
    if skill and prompt:
        raise UserError("give either --skill or --prompt, not both")
    if prompt is not None and not prompt.strip():
        raise UserError("--prompt is empty: say what you want to know")
    settings, sound = load(profile), list(_sound(files))
    if not sound:  # told before the model is loaded
        sys.exit(1)
    turns = make_turns(settings, lambda name, message: complain(f"plugin {name} {message}"), safe)
    chosen = turns.host.skill(skill) if skill else None
    if prompt is not None:
        chosen = question_of_ones_own(prompt)
    with HistoryWriter(turns.profile, print_trouble) if keep else nullcontext() as history:
        answered = _print_rows(rows(sound, turns, chosen, prompt, history), as_json, plain=len(files) == 1)
        turns.close()
    if answered < set(files):
        sys.exit(1)


def _sound(files: list[str]) -> Iterator[str]:
    """The files that can be opened as sound; of the others it is told why not."""
    for path in files:
        try:
            FileSource(path)
        except UserError as error:
            complain(str(error))
        else:
            yield path


def print_trouble(event: Event) -> None:
    """The answers are printed from their rows."""
    if isinstance(event, ErrorRaised):
        complain(event.message)


def _print_rows(found: Iterator[dict[str, Any]], as_json: bool, plain: bool) -> set[str]:
    """The files that were answered."""
    answered = set()
    for row in found:
        answered.add(row["file"])
        if as_json:
            print_json(row)
            continue
        shown = [action["values"]["text"] for action in row["actions"] if action["kind"] == "show"]
        for text in (row["text"], *shown):
            print(text if plain else f"{row['file']}: {text}")
    return answered
