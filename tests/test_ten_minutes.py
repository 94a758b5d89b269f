"""A scripted session of ten minutes, as fast as it can be heard: nothing is lost and nothing piles up."""

import threading
import time

import numpy as np
import psutil
import pytest

from assistant.audio.source import read_wave
from assistant.audio.vad import make_detector
from assistant.commands.setup import make_turns
from assistant.events import (
    DeviceStateChanged,
    EarsChanged,
    ErrorRaised,
    FramesDropped,
    Responded,
    WindowClosed,
    WindowDropped,
    WindowOpened,
)
from assistant.profile import load
from assistant.records import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE
from assistant.session import TOO_FAR_BEHIND, Session
from assistant.turns import KEPT_WINDOWS, Turns
from tests.conftest import ROOT, FakeCore, silence, tone

SECONDS = 600
MEMORY_EVERY = 500  # frames, 15 s


class Deep:
    """Calls a loud frame voiced if it is below some 1000 Hz."""

    def is_speech(self, frame):
        crossings = np.count_nonzero(np.diff(np.signbit(frame)))
        return float(np.sqrt(np.mean(frame**2))) > 0.01 and crossings < 60


class Script:
    """A live microphone that waits for nobody, except that it never runs ahead by more than two open questions.

    Args:
        wave: what is heard.
        presses: what happens at which second; a change of the device, or something done to the session.
    """

    name, live, end = "script", True, "end_of_file"

    def __init__(self, wave, presses):
        self._wave, self._presses = wave, sorted(presses, key=lambda press: press[0])
        self.events, self.memory, self.session = [], [], None
        self._open = set()  # windows that were closed and have no answer yet
        self._process = psutil.Process()

    def emit(self, event):
        if event.name == "level":
            return
        self.events.append(event)
        if isinstance(event, WindowClosed):
            self._open.add(event.window)
        elif isinstance(event, (WindowDropped, Responded)):
            self._open.discard(event.window if isinstance(event, WindowDropped) else event.response.window_id)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def frames(self, stopped):
        for number, frame in enumerate(self._wave[: len(self._wave) // 480 * 480].reshape(-1, FRAME_SAMPLES)):
            while self._presses and self._presses[0][0] <= number * FRAME_S:
                _, do = self._presses.pop(0)
                if isinstance(do, DeviceStateChanged):
                    yield do
                else:
                    do(self.session)
            if number % MEMORY_EVERY == 0:
                self.memory.append(self._process.memory_info().rss / 2**20)
            while len(self._open) > 2 and not stopped():
                time.sleep(0.005)
            yield frame
        while self._open and not stopped():
            time.sleep(0.005)

    def dropped(self):
        return 0

    def run(self, turns, detector):
        self.session = Session(self, detector, turns, self.emit)
        self.session.run()

    def nothing_was_lost(self):
        closed = [event.window for event in self.of(WindowClosed)]
        assert closed == list(range(1, len(closed) + 1)) == [event.window for event in self.of(WindowOpened)]
        dropped = {event.window: event.reason for event in self.of(WindowDropped)}
        assert TOO_FAR_BEHIND not in dropped.values()
        answered = {event.response.window_id for event in self.of(Responded)}
        assert answered | set(dropped) == set(closed)
        assert not self.of(ErrorRaised)
        assert not self.of(FramesDropped)


def track(parts, seconds=SECONDS):
    """(second, waveform) laid over ten minutes of a quiet room."""
    wave = silence(seconds)
    for second, part in parts:
        at = int(second * SAMPLE_RATE)
        wave[at : at + len(part)] += part
    return wave


def melody(seconds):
    notes = np.random.default_rng(2).choice([2200.0, 2500.0, 2800.0, 3300.0], int(seconds * 4))
    return np.concatenate([tone(0.25, 0.1, hertz) for hertz in notes])


def switch(name, on):
    return lambda session: getattr(getattr(session, name), "set" if on else "clear")()


def test_ten_minutes_under_a_fake_core_lose_no_window_and_keep_their_memory(profile, host):
    sayings = [(second, tone(1.2)) for second in range(5, 200, 5)]
    sounds = [(second, tone(0.8, 0.1, 3000)) for second in range(203, 240, 5)]
    rest = [(245, tone(70)), (320, melody(150)), *((second, tone(1.2)) for second in range(500, 595, 5))]
    lost, back = (
        DeviceStateChanged(state=state, device="script", reason="test") for state in ("reconnecting", "active")
    )
    presses = [
        *((501, switch("muted", True)), (509, switch("muted", False))),
        *((516, switch("paused", True)), (519, switch("paused", False))),
        *((530, lambda session: session.toggle_talk()), (539, lambda session: session.toggle_talk())),
        *((550.5, lost), (551, back)),
        (560.5, lambda session: session.cut_now()),
    ]
    script = Script(track([*sayings, *sounds, *rest]), presses)
    threads = threading.active_count()  # of other tests
    script.run(Turns(FakeCore("yes"), host, profile), Deep())
    script.nothing_was_lost()
    reasons = [event.reason for event in script.of(WindowClosed)]
    assert set(reasons) >= {"silence", "max_window", "steady", "manual", "device_lost"}
    assert reasons.count("steady") == 3  # of 150 s of music: once, then an update a minute
    assert [event.update for event in script.of(WindowOpened)].count(True) == 2
    assert len(script.of(EarsChanged)) == 6
    assert len([e for e in script.of(WindowClosed) if e.start_s < 200 and e.reason == "silence"]) == len(sayings)
    assert script.memory[-1] - script.memory[8] < 25
    assert threading.active_count() - threads < 40


@pytest.mark.slow
@pytest.mark.weights
def test_twenty_minutes_under_the_tiny_core_lose_no_window_and_keep_their_memory():
    profile = load("captions")
    waves = [read_wave(path) for path in sorted((ROOT / "examples").iterdir()) if path.suffix in (".wav", ".flac")]
    parts = [(second, waves[n % len(waves)][: 3 * SAMPLE_RATE]) for n, second in enumerate(range(5, 1185, 26))]
    script = Script(track(parts, 2 * SECONDS), [])
    turns = make_turns(profile, lambda name, message: script.emit(ErrorRaised(source=name, message=message)))
    script.run(turns, make_detector(profile.hearing))
    turns.close()
    script.nothing_was_lost()
    assert len(script.of(Responded)) >= len(parts)
    assert {event.response.end for event in script.of(Responded)} == {"done"}
    assert all(event.response.text for event in script.of(Responded))
    # The last sixteen windows are kept for further questions; from then on nothing may grow. An answer that is being
    # written takes up to 90 MB that it gives back, so the least of two minutes is compared.
    full = max(event.window for event in script.of(WindowClosed) if event.start_s < 660)
    assert full > KEPT_WINDOWS
    early, late = min(script.memory[660 // 15 :][:8]), min(script.memory[-8:])
    assert late - script.memory[0] < 200
    assert late - early < 20
