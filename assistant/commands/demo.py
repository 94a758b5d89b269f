"""`assistant demo`: what a new user sees first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from assistant.commands.ask import window_of
from assistant.commands.setup import make_turns
from assistant.commands.weights import pull_all
from assistant.errors import UserError
from assistant.events import Responded, TokenGenerated
from assistant.profile import load

EXAMPLES = (
    ("please-try-later.wav", "transcribe"),
    ("bell.flac", "describe"),
)


def examples_folder() -> Path:
    """The recordings that travel with the code, beside the package or in the working folder."""
    for root in (Path(__file__).parents[2], Path.cwd()):
        if (root / "examples" / EXAMPLES[0][0]).exists():
            return root / "examples"
    raise UserError("the example recordings are not here; run this in a checkout, or try: assistant ask FILE")


def run(profile: str, open_screen: bool) -> None:
    folder = examples_folder()
    pull_all([])
    turns = make_turns(load(profile), lambda name, message: print(f"plugin {name} {message}", file=sys.stderr))
    for number, (name, skill) in enumerate(EXAMPLES, 1):
        print(f"\nexamples/{name}  ({skill})\n  ", end="")
        for event in turns.answer(window_of(str(folder / name), number), turns.host.skill(skill)):
            if isinstance(event, TokenGenerated):
                print(event.text, end="", flush=True)
            if isinstance(event, Responded):
                timings = event.response.timings_ms
                print(f"\n  {event.audio_s:.1f} s of sound, answered in {timings.total:.0f} ms")
    if open_screen and sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("CI") is None:
        from assistant.commands.screen import run as run_screen

        return run_screen(profile, None, safe=False)
    print("\nTo talk to it, open the live screen in a terminal:\n  .venv/bin/assistant")
    return None
