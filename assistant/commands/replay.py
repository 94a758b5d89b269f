"""`assistant replay`: a recorded session once more, compared with what happened then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assistant.audio.vad import make_detector
from assistant.commands.output import complain, print_json
from assistant.commands.setup import make_host, make_turns
from assistant.profile import Profile, load
from assistant.recorded import Recorded
from assistant.recording import versions
from assistant.replay import Difference, ReplayCore, ReplaySource, compare, replay, rows
from assistant.turns import Turns


def run(folder: Path, profile: str | None, live: bool, as_json: bool) -> None:
    recorded = Recorded(folder)
    chosen = load(profile) if profile else recorded.profile()
    if not recorded.complete:
        complain(f"{folder} was cut off before its session ended; what is there is replayed")
    turns = _turns(recorded, chosen, live)
    detector = make_detector(chosen.hearing)
    with _progress(recorded.frames) as heard:
        now = replay(ReplaySource(recorded), detector, turns, heard)
    pairs = compare(rows(recorded.events), now)
    changed = {name: [then, versions().get(name)] for name, then in recorded.about["versions"].items()}
    changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
    _print_json(pairs, changed) if as_json else _print(pairs, changed)
    if any(pair.changes for pair in pairs):
        sys.exit(1)


def _turns(recorded: Recorded, profile: Profile, live: bool) -> Turns:
    def report(name: str, message: str) -> None:
        complain(f"plugin {name} {message}")

    if live:
        return make_turns(profile, report)
    return Turns(ReplayCore(recorded), make_host(profile, report, safe=False), profile)


@contextmanager
def _progress(frames: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if a person looks at it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying", total=frames)
        yield lambda: bar.advance(task)


def _print(pairs: list[Difference], changed: dict[str, list[str | None]]) -> None:
    for pair in pairs:
        if not pair.changes:
            continue
        row: Any = pair.recorded or pair.replayed
        print(f"window {row['window']} [{row['start_s']:.2f} s]")
        for key, (then, now) in pair.changes.items():
            print(f"  - {key}: {then}\n  + {key}: {now}")
    different = sum(bool(pair.changes) for pair in pairs)
    unanswered = sum(pair.unanswered for pair in pairs if pair.recorded)
    verdict = f"{different} not the same" if different else "identical"
    print(f"{len(pairs)} window{'' if len(pairs) == 1 else 's'}: {verdict}")
    if unanswered:
        print(f"{unanswered} had no answer then (too far behind, or stopped); only their cuts are compared")
    for name, (before, here) in changed.items():
        complain(f"recorded with {name} {before}, replayed with {here}")


def _print_json(pairs: list[Difference], changed: dict[str, list[str | None]]) -> None:
    for pair in pairs:
        changes = {key: {"recorded": then, "replayed": now} for key, (then, now) in pair.changes.items()}
        print_json({"same": not changes, "changes": changes, "recorded": pair.recorded, "replayed": pair.replayed})
    different = sum(bool(pair.changes) for pair in pairs)
    print_json({"windows": len(pairs), "different": different, "versions_changed": changed})
