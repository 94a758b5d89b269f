"""For authors of skills: a pytest plugin that comes with the assistant.

    def test_it_says_what_time_it_is(assistant_loop):
        loop = assistant_loop(my_skill, words=["It is ", "noon."])
        heard = loop.hear("what-time-is-it.wav")
        assert heard.skill == "clock" and heard.text == "It is noon."
        heard.within_ms(50)

    def test_it_says_what_it_said_in_the_kitchen(assistant_loop):
        replayed = assistant_loop.replay("recordings/kitchen", my_skill)
        assert [heard.skill for heard in replayed] == ["clock"]
        assert not replayed.changes

`words` are what a scripted model says; `core="tiny"` takes the real one (and skips where its weights are absent).
A replay gives the recorded answers. Only the bundled plugins and those that you hand over are there, whatever is
installed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from assistant.events import ErrorRaised, Event
from assistant.records import SAMPLE_RATE, AudioWindow, Skill, WindowKind
from assistant.testing.fake import FakeCore
from assistant.testing.heard import Heard
from assistant.testing.replayed import Replayed

__all__ = ["AssistantLoop", "FakeCore", "Heard", "Loop", "Replayed", "assistant_loop"]

logger = logging.getLogger(__name__)


class Loop:
    """One conversation with the plugins under test."""

    def __init__(self, turns: Any, plugins: tuple[str, ...], errors: list[ErrorRaised]) -> None:
        self.turns = turns
        self._plugins, self._errors = plugins, errors
        self._windows = 0
        self._at_s = 0.0

    @property
    def core(self) -> Any:
        """The model; of a scripted one `asked` has the prompts, and `words` may be changed."""
        return self.turns.core

    @property
    def host(self) -> Any:
        """The plugin host, that of another profile after `turns.switch`."""
        return self.turns.host

    def hear(self, audio: str | Path | np.ndarray | float, skill: str | None = None) -> Heard:
        """Answer one window.

        Args:
            audio: a sound file, a waveform (samples,) at 16 kHz, or seconds of faint noise.
            skill: who answers; otherwise claims and the profile decide, as in the live loop.
        """
        samples = _samples(audio)
        self._windows += 1
        window = AudioWindow(self._windows, samples, "speech", self._at_s, "silence", -20.0, str(audio)[:80])
        self._at_s += window.duration_s
        chosen: Skill | None = self.host.skill(skill) if skill else None
        return self.heard(list(self.turns.answer(window, chosen)))

    def heard(self, events: list[Event]) -> Heard:
        """The events of one turn, with the plugins' failures meanwhile; pytest shows them if the test fails."""
        errors, self._errors[:] = list(self._errors), []
        for error in errors:
            logger.error("%s %s", error.source, error.message)
        return Heard([*errors, *events], self._plugins)

    def close(self) -> None:
        """End the session: `session_stopped` fires."""
        self.turns.close()


class AssistantLoop:
    """Makes conversations; `assistant_loop` is one of these."""

    def __init__(self) -> None:
        self._loops: list[Loop] = []

    def __call__(self, *plugins: Any, profile: str = "default", **options: Any) -> Loop:
        """A conversation under a profile, by name or file.

        Args:
            plugins: modules or objects with hook implementations.
            options: `words` of the scripted model, what kind it `hears` (speech, or sound), the plugins' `settings` by
                name (a module's own name), `core="tiny"` for salmonn-tiny.
        """
        from assistant.profile import load

        return self._made(plugins, load(profile), **options)

    def replay(self, folder: str | Path, *plugins: Any, profile: str | None = None, **options: Any) -> Replayed:
        """Run a session again that `assistant listen --record FOLDER` wrote: the same windows and the same answers.

        Actions are told and not done. What the recording has no answer to fails the test.

        Args:
            profile: instead of the recorded one.
            options: as of a conversation; `words` or `core="tiny"` answer instead of the recording.
        """
        from assistant.profile import load
        from assistant.recorded import Recorded
        from assistant.replay import ReplayCore
        from assistant.testing.replayed import run_again

        recorded = Recorded(Path(folder))
        chosen = load(profile) if profile else recorded.profile()
        loop = self._made(plugins, chosen, **options)
        if "words" not in options and "core" not in options:
            loop.turns.core = ReplayCore(recorded)
        return run_again(recorded, loop.turns, loop.heard)

    def close(self) -> None:
        for loop in self._loops:
            loop.close()

    def _made(self, plugins: tuple[Any, ...], profile: Any, **options: Any) -> Loop:
        self._loops.append(_make_loop(plugins, profile, **options))
        return self._loops[-1]


@pytest.fixture
def assistant_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AssistantLoop]:
    """Make a `Loop`, or replay a recording (`AssistantLoop`).

    Nothing of the user's own is read or written, and nobody is notified.
    """
    monkeypatch.setenv("ASSISTANT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("assistant.acting._notify", lambda action: None)
    made = AssistantLoop()
    yield made
    made.close()


def _make_loop(
    plugins: tuple[Any, ...],
    profile: Any,
    words: Sequence[str] = (),
    hears: WindowKind = "speech",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    core: str = "fake",
) -> Loop:
    from assistant.plugin_host import PluginHost, PluginState
    from assistant.turns import Turns

    profile = profile.model_copy(update={"plugins": {**profile.plugins, **(settings or {})}})
    errors: list[ErrorRaised] = []
    host = PluginHost(
        profile, lambda name, said: errors.append(ErrorRaised(source=f"plugin {name}", message=said)), safe=True
    )
    names = tuple(_name(plugin) for plugin in plugins)
    for name, plugin in zip(names, plugins, strict=True):
        host.register(plugin, PluginState(name, "", "", name, bundled=False))
    assert not host.mistakes, host.mistakes[0]
    model: Any = FakeCore(*words, hears=hears) if core == "fake" else _real_core(profile)
    return Loop(Turns(model, host, profile, "test"), names, errors)


def _name(plugin: Any) -> str:
    name = plugin.__name__ if isinstance(plugin, (ModuleType, type)) else type(plugin).__name__
    return name.rsplit(".", 1)[-1].lower().replace("_", "-")


def _real_core(profile: Any) -> Any:
    from assistant.core import load_core
    from assistant.errors import UserError

    try:
        return load_core(profile.core)
    except UserError as error:
        pytest.skip(f"salmonn-tiny cannot be loaded: {error}")


def _samples(audio: str | Path | np.ndarray | float) -> np.ndarray:
    if isinstance(audio, np.ndarray):
        return audio
    if isinstance(audio, (str, Path)):
        from assistant.audio.source import read_wave

        return read_wave(audio)
    noise = np.random.default_rng(0).standard_normal(int(audio * SAMPLE_RATE))
    return (1e-3 * noise).astype(np.float32)
