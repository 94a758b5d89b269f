"""One window, one answer: who answers, what is asked, the tokens, and what the plugins make of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from assistant.core import Core
from assistant.events import Event, Responded, TokenGenerated, TurnStarted, WindowDropped
from assistant.plugin_host import PluginHost
from assistant.profile import Profile
from assistant.records import AudioWindow, GenerationSettings, Prompt, Response, Skill, Timings, TurnEnd


class Turns:
    """Answers windows, one after the other. Has no thread of its own."""

    def __init__(self, core: Core, host: PluginHost, profile: Profile) -> None:
        self.core, self.host, self.profile = core, host, profile
        self.cancel = threading.Event()

    def skill_for(self, window: AudioWindow) -> Skill:
        """The skill that a plugin claims the window for, or the profile's for that kind."""
        claimed = self.host.claim(window)
        chosen = self.profile.answer.speech if window.kind == "speech" else self.profile.answer.sound
        return self.host.skill(claimed or chosen)

    def prompt_for(self, window: AudioWindow, skill: Skill, instruction: str | None) -> Prompt:
        """The skill's prompt, shaped by the plugins; an instruction of the user's own is taken as it is."""
        pinned = self.profile.generation.model_dump(exclude_none=True)
        settings = GenerationSettings(**{**skill.settings, **pinned})
        if instruction is not None:
            return Prompt(instruction, settings)
        prompt = self.host.shape(window, skill, Prompt(skill.instruction, settings))
        return replace(prompt, settings=replace(prompt.settings, **pinned))

    def answer(
        self, window: AudioWindow, skill: Skill | None = None, instruction: str | None = None
    ) -> Iterator[Event]:
        """Yield the turn's events; the last one is `Responded`, or `WindowDropped` if nobody wants the window.

        Without a `skill` the model itself first says what kind of window it is, and that decides who answers.
        """
        self.cancel.clear()
        clock = _Clock(time.monotonic())
        audio = self.core.encode(window.samples)
        clock.mark("encode")
        if skill is None:
            window = replace(window, kind=self.core.kind(audio))
            if window.kind == "sound" and not self.profile.hearing.sounds:
                yield WindowDropped(window=window.id, reason="no speech, and the profile ignores sounds")
                return
            skill = self.skill_for(window)
        prompt = self.prompt_for(window, skill, instruction)
        yield TurnStarted(window=window.id, kind=window.kind, skill=skill.name, prompt=prompt.instruction)
        pieces: list[str] = []
        for piece in self.core.stream(audio, prompt, self.cancel.is_set):
            if not pieces:
                clock.mark("first_token")
            pieces.append(piece)
            self.host.token(window, skill, piece)
            yield TokenGenerated(window=window.id, text=piece)
        clock.mark("total")
        end: TurnEnd = "cancelled" if self.cancel.is_set() else "done"
        text = "".join(pieces).strip()
        response = Response(text, skill.name, prompt, window.id, clock.timings(), end, tokens=len(pieces))
        if end == "done" and instruction is None:
            response = self.host.consume(window, skill, response)
        yield Responded(response=response, audio_s=window.duration_s)


@dataclass
class _Clock:
    begun: float
    marks: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        self.marks[name] = 1000.0 * (time.monotonic() - self.begun)

    def timings(self) -> Timings:
        return Timings(**(asdict(Timings()) | {"first_token": self.marks["total"]} | self.marks))
