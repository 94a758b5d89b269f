"""`assistant` alone: the live screen."""

from __future__ import annotations

import sys

from assistant import first_run
from assistant.audio.tap import Tap
from assistant.audio.vad import VoiceDetector, make_detector
from assistant.commands.setup import make_source
from assistant.errors import UserError
from assistant.events import ErrorRaised, Event
from assistant.history import HistoryWriter
from assistant.profile import Profile, load


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

    def told(event: Event) -> None:
        if isinstance(event, ErrorRaised) and event.source == "history":  # the others the screen knows already
            app.show(event)

    with HistoryWriter(chosen, told) as history:

        def detector(profile: Profile) -> VoiceDetector:
            return Tap(make_detector(profile.hearing), history.hear)

        def wipe() -> str:
            history.wipe()
            return "everything that was heard is forgotten, in memory and in the history; files that skills wrote stay"

        services = Services(
            detector=detector,
            consumers=(history,),
            forget=history.forget,
            wipe=wipe,
            privacy=kept_in_words,
            switched=history.use,
        )
        app = AssistantApp(chosen, source, services, watched=profile)
        app.run()
    if app.failure:
        raise UserError(app.failure)


def kept_in_words(profile: Profile) -> tuple[str, ...]:
    """What a profile keeps, for the status line, from long to short."""
    history = profile.history
    kept = [name for name, wanted in (("text", history.keep_text), ("sound", history.keep_audio)) if wanted]
    if not kept:
        return "nothing is kept", "not kept"
    days = f" for {history.days} days" if history.days else ""
    return f"{' and '.join(kept)} kept here{days}", f"{'+'.join(kept)} kept"
