"""`assistant` alone: the live screen."""

from __future__ import annotations

import sys

from assistant import first_run
from assistant.commands.setup import make_source
from assistant.errors import UserError
from assistant.profile import load


def run(profile: str, input_: str | None, safe: bool) -> None:
    """Open the screen; at the very first start it asks for the microphone."""
    if not sys.stdout.isatty():
        raise UserError("the screen needs a terminal; without one use: assistant listen")
    chosen = load(profile)
    chosen = chosen.model_copy(update={"safe": safe or chosen.safe})
    asks = input_ is None and profile == "default" and first_run.needed()
    source = None if asks else make_source(input_, chosen, patient=True)
    from assistant.tui.app import AssistantApp
    from assistant.tui.services import Services

    # History attaches here: Services(consumers=(history,), wipe=history.wipe, privacy="text is kept, sound is not").
    app = AssistantApp(chosen, source, Services(), watched=profile)
    app.run()
    if app.failure:
        raise UserError(app.failure)
