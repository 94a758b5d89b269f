"""For authors of skills: a pytest plugin that comes with the assistant.

    def test_it_says_what_time_it_is(assistant_loop):
        loop = assistant_loop(my_skill, words=["It is ", "noon."])
        heard = loop.hear("what-time-is-it.wav")
        assert heard.skill == "clock" and heard.text == "It is noon."
        heard.within_ms(50)

`words` are what a scripted model says; `core="tiny"` takes the real one (and skips where its weights are absent).
Only the bundled plugins and those that you hand over are there, whatever is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pytest

from assistant.actions import Action
from assistant.events import ActionTaken, ErrorRaised, Event, PanelsChanged, Responded, TokenGenerated, TurnStarted
from assistant.records import SAMPLE_RATE, AudioWindow, Prompt, Response, Skill, WindowKind

E = TypeVar("E", bound=Event)


class FakeCore:
    """A model that says the scripted words, and remembers what it was asked.

    Args:
        words: the pieces of every answer, in order.
        hears: what kind every window is.
    """

    name = "fake"

    def __init__(self, *words: str, hears: WindowKind = "speech") -> None:
        self.words = list(words) or ["hello ", "there"]
        self.hears: WindowKind = hears
        self.asked: list[Prompt] = []
        self.encoded = 0
        self.between: Callable[[], None] = lambda: None

    def encode(self, samples: np.ndarray) -> Any:
        self.encoded += 1
        return len(samples)

    def kind(self, audio: Any) -> WindowKind:
        return self.hears

    def join(self, parts: Sequence[Any]) -> Any:
        return sum(parts)

    def stream(self, audio: Any, prompt: Prompt, cancelled: Callable[[], bool] = lambda: False) -> Iterator[str]:
        self.asked.append(prompt)
        for word in self.words:
            if cancelled():
                return
            yield word
            self.between()


@dataclass(frozen=True)
class Heard:
    """What came of one window."""

    events: list[Event]
    plugins: tuple[str, ...] = field(default=())

    def all(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def responses(self) -> list[Response]:
        """The answer, and those of follow-up questions."""
        return [event.response for event in self.all(Responded)]

    @property
    def response(self) -> Response:
        assert self.responses, f"nobody answered; what happened: {self.events}"
        return self.responses[0]

    @property
    def text(self) -> str:
        return self.response.text

    @property
    def skill(self) -> str:
        return self.response.skill

    @property
    def prompt(self) -> Prompt:
        return self.response.prompt

    @property
    def slots(self) -> Mapping[str, Any] | None:
        return self.response.slots

    @property
    def tokens(self) -> list[str]:
        return [event.text for event in self.all(TokenGenerated)]

    @property
    def claims(self) -> tuple[tuple[str, str, float], ...]:
        return self.all(TurnStarted)[0].claims

    @property
    def actions(self) -> tuple[Action, ...]:
        return self.response.actions

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """What `Record` actions put into the event stream."""
        return [event.values for event in self.all(ActionTaken) if event.kind == "record"]

    @property
    def panels(self) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
        return [(title, rows) for event in self.all(PanelsChanged) for _, title, rows in event.panels]

    @property
    def errors(self) -> list[str]:
        return [f"{event.source} {event.message}" for event in self.all(ErrorRaised)]

    def within_ms(self, limit: float) -> None:
        """Fail if a hook of the plugins under test took longer, in all its calls for this window."""
        spent = self.all(Responded)[0].hook_ms
        slow = {key: ms for key, ms in spent.items() if key.split(".")[0] in self.plugins and ms > limit}
        assert not slow, f"longer than {limit:g} ms: {slow}"


class Loop:
    """One conversation with the plugins under test."""

    def __init__(self, turns: Any, plugins: tuple[str, ...], errors: list[Event]) -> None:
        self.turns, self.core, self.host = turns, turns.core, turns.host
        self._plugins, self._errors = plugins, errors
        self._windows = 0
        self._at_s = 0.0

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
        events = list(self.turns.answer(window, chosen))
        errors, self._errors[:] = list(self._errors), []
        return Heard(errors + events, self._plugins)

    def close(self) -> None:
        """End the session: `session_stopped` fires."""
        self.turns.close()


@pytest.fixture
def assistant_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    """Make a `Loop`: `assistant_loop(plugin, ..., words=[...], hears="speech", profile="default", settings={...})`.

    `plugin` is a module or an object with hook implementations; `settings` are their parts of the profile, by plugin
    name (a module's own name); `core="tiny"` takes salmonn-tiny. Nothing of the user's own is read or written.
    """
    monkeypatch.setenv("ASSISTANT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path / "data"))
    loops: list[Loop] = []

    def make(*plugins: Any, **options: Any) -> Loop:
        loops.append(_make_loop(plugins, **options))
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


def _make_loop(
    plugins: tuple[Any, ...],
    words: Sequence[str] = (),
    hears: WindowKind = "speech",
    profile: str = "default",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    core: str = "fake",
) -> Loop:
    from assistant.plugin_host import PluginHost, PluginState
    from assistant.profile import load
    from assistant.turns import Turns

    loaded = load(profile)
    loaded = loaded.model_copy(update={"plugins": {**loaded.plugins, **(settings or {})}})
    errors: list[Event] = []
    host = PluginHost(
        loaded, lambda name, said: errors.append(ErrorRaised(source=f"plugin {name}", message=said)), safe=True
    )
    names = tuple(_name(plugin) for plugin in plugins)
    for name, plugin in zip(names, plugins, strict=True):
        host.register(plugin, PluginState(name, "", "", name, bundled=False))
    assert not host.mistakes, host.mistakes[0]
    model: Any = FakeCore(*words, hears=hears) if core == "fake" else _real_core(loaded)
    return Loop(Turns(model, host, loaded, "test"), names, errors)


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
