"""The screen on a fake core, for the tests of what a person sees and what the keys do."""

import threading
import time
from dataclasses import replace

import numpy as np

from assistant.plugin_host import PluginHost
from assistant.tui.app import AssistantApp
from assistant.tui.services import Microphone, Services
from assistant.turns import Turns
from tests.conftest import ArraySource, LoudIsVoice, silence, tone

SAYING = np.concatenate((silence(1), tone(1), silence(1.5)))
SAYINGS = np.concatenate((SAYING, tone(1), silence(1.5)))
QUIET = np.zeros(480, np.float32)


class HeldSource(ArraySource):
    """Gives its sound, then stays open as a microphone does, in silence or with a voice that never ends."""

    def __init__(self, wave, after=QUIET, name="array"):
        super().__init__(wave, live=True)
        self._after, self.name = after, name

    def frames(self, stopped):
        yield from super().frames(stopped)
        while not stopped():
            yield self._after
            threading.Event().wait(0.01)


def services(core, **parts):
    """Everything outside the screen, as fakes."""
    fakes = Services(
        load_turns=lambda profile, report: Turns(core, PluginHost(profile, report), profile),
        detector=lambda profile: LoudIsVoice(),
        open_source=lambda wanted, profile: HeldSource(SAYING, name=f"microphone {wanted}"),
        microphones=lambda: [Microphone(0, "Built-in", True), Microphone(3, "Headset", False)],
        play=lambda samples, stopped: None,
        missing_weights=list,
    )
    return replace(fakes, **parts)


def app(profile, core, wave=SAYING, after=QUIET, watched=None, **parts):
    made = AssistantApp(profile, HeldSource(wave, after), services(core, **parts), watched)
    made.NOTIFICATION_TIMEOUT = 600  # on a busy machine a toast would be gone before the test has looked
    return made


async def until(pilot, condition):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        await pilot.pause(0.02)
        if condition():
            return
    raise AssertionError("it did not happen within twenty seconds")


def shown(app_, kind):
    """The text of all widgets of a kind; of the screen that is on top too."""
    widgets = [*app_.query(kind), *(app_.screen.query(kind) if app_.screen is not app_.screen_stack[0] else ())]
    return " ".join(_text(widget.render()) for widget in widgets)


def _text(rendered):
    return getattr(rendered, "plain", None) or str(rendered)


def toasts(app_):
    return " ".join(f"{note.title} {note.message}" for note in app_._notifications)
