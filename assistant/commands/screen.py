"""`assistant` alone: the live screen."""

from __future__ import annotations

import sys

from assistant.commands.setup import make_source
from assistant.errors import UserError
from assistant.profile import load


def run(profile: str, input_: str | None, safe: bool) -> None:
    if not sys.stdout.isatty():
        raise UserError("the screen needs a terminal; without one use: assistant listen")
    chosen = load(profile)
    source = make_source(input_, chosen, patient=True)
    from assistant.tui.app import AssistantApp

    app = AssistantApp(chosen, source, safe=safe)
    app.run()
    if app.failure:
        raise UserError(app.failure)
