"""One window, one answer: who answers, what is asked, the tokens, and what the plugins make of them."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from assistant.acting import act
from assistant.actions import Ask
from assistant.core import Core
from assistant.errors import UserError
from assistant.events import Event, PanelsChanged, Responded, TokenGenerated, Transcribed, TurnStarted, WindowDropped
from assistant.plugin_host import Claims, PluginHost
from assistant.profile import Profile
from assistant.records import (
    AudioWindow,
    GenerationSettings,
    Prompt,
    Response,
    SessionInfo,
    Skill,
    Timings,
    Turn,
    TurnEnd,
    WindowKind,
)
from assistant.stitching import Seam

REMEMBERED_TURNS = 50
KEPT_WINDOWS = 16  # whose audio tokens can be asked again or put before another's; some 0.3 MB each
MOST_SECONDS = 30.0  # of audio in one prompt
MOST_FOLLOW_UPS = 3
Settled = Callable[[], AudioWindow | None]
# A question of the user's own may be about anything: sounds are named for it, and it is no story.
OF_ONES_OWN = {"names_first": True, "heard_first": False, "min_new_tokens": 0}


@dataclass(frozen=True)
class Heard:
    """A window with what the model made of it: it can be asked again without encoding."""

    window: AudioWindow
    audio: Any


class Turns:
    """Answers windows, one after the other. Has no thread of its own."""

    def __init__(self, core: Core, host: PluginHost, profile: Profile, source: str = "") -> None:
        self.core, self.host, self.profile = core, host, profile
        self.cancel = threading.Event()
        self.cancelled_as: TurnEnd = "cancelled"
        self.act = act  # a replay does not write into files again
        self.heard: OrderedDict[int, Heard] = OrderedDict()
        self.session = SessionInfo(uuid.uuid4().hex, profile.name, source, profile.language)
        self._turns: deque[Turn] = deque(maxlen=REMEMBERED_TURNS)
        self._forgotten: set[int] = set()
        self._full: _Said | None = None  # of a window that was full, so that the next one begins with its end
        self._panels: tuple[Any, ...] = ()

    @property
    def past(self) -> tuple[Turn, ...]:
        """The answers so far, the oldest first."""
        return tuple(self._turns)

    def switch(self, profile: Profile) -> None:
        """Go on under another profile that names the same model; the conversation stays.

        Raises:
            UserError: the new profile does not fit its plugins; the old one stays in force.
        """
        self.host = self.host.succeeded_by(profile, (profile.answer.speech, profile.answer.sound))
        self.profile = profile
        self.session = replace(self.session, profile=profile.name, language=profile.language)

    def close(self, emit: Callable[[Event], None] | None = None) -> None:
        """The session is over: plugins are told.

        Args:
            emit: told what they print, and who is switched off.
        """
        self.host.close()
        if emit is not None:
            for event in self._plugin_events():
                emit(event)

    def answer(
        self,
        window: AudioWindow,
        skill: Skill | None = None,
        instruction: str | None = None,
        settled: Settled | None = None,
    ) -> Iterator[Event]:
        """Yield the turn's events; the last is `Responded` with what follows from it, or `WindowDropped`.

        The model itself first says what kind of window it is, unless the `skill` accepts one kind only; without a
        `skill`, that decides who answers.

        Args:
            settled: for an answer that is begun early (`assistant.early`): asked after the last token, it waits for
                the window as it ended, or None if speech went on; then nothing more happens. `window_heard` of the
                plugins waits for it, too.
        """
        self.cancel.clear()
        self.cancelled_as = "cancelled"
        clock = _Clock(time.monotonic())
        self.session = replace(self.session, source=self.session.source or window.source)
        self.host.begin_turn(self.session)
        audio = self.core.encode(window.samples)
        clock.mark("encode")
        claims: Claims = ()
        window = replace(window, kind=self._kind(audio, skill))
        if settled is None:
            self._keep(window, audio)
            self.host.heard(window, self.past)
        if skill is None:
            if window.kind == "sound" and not self.profile.hearing.sounds:
                yield from self._plugin_events()
                yield WindowDropped(window=window.id, reason="no speech, and the profile ignores sounds")
                return
            claims = self.host.claims(window, self.past)
            chosen = self._chosen(window, claims)
            skill = self.host.skills.get(chosen)
            if skill is None:
                yield from self._plugin_events()
                yield WindowDropped(window=window.id, reason=f"the skill {chosen} is switched off")
                return
        before = self._said_before(window, skill) if instruction is None else ""
        yield from self._turn(_Ask(window, audio, skill, instruction, claims, clock, settled=settled, before=before))

    def again(self, window_id: int, skill: Skill, instruction: str | None = None) -> Iterator[Event]:
        """Ask about a window that was heard before, without encoding it again.

        Raises:
            UserError: it is too long ago.
        """
        if window_id not in self.heard:
            raise UserError(f"window {window_id} is no longer kept; the last {KEPT_WINDOWS} are")
        self.cancel.clear()
        self.host.begin_turn(self.session)
        heard = self.heard[window_id]
        yield from self._turn(_Ask(heard.window, heard.audio, skill, instruction, (), _Clock(time.monotonic())))

    def forget(self, window_id: int) -> None:
        """Drop a window's audio and what was said about it, also what is still to come. From any thread."""
        self._forgotten.add(window_id)
        self.heard.pop(window_id, None)
        self._turns = deque((turn for turn in tuple(self._turns) if turn.window_id != window_id), REMEMBERED_TURNS)
        if self._full is not None and self._full.window == window_id:
            self._full = None

    def _keep(self, window: AudioWindow, audio: Any) -> None:
        if window.id in self._forgotten:
            return
        self.heard[window.id] = Heard(window, audio)
        while len(self.heard) > KEPT_WINDOWS:
            self.heard.popitem(last=False)

    def _kind(self, audio: Any, skill: Skill | None) -> WindowKind:
        if skill is not None and len(skill.kinds) == 1:
            return next(iter(skill.kinds))
        return self.core.kind(audio)

    def _chosen(self, window: AudioWindow, claims: Claims) -> str:
        """The profile's pin, the best claim, or the profile's skill for that kind of window."""
        answer = self.profile.answer
        pinned = self.host.skills.get(answer.pin) if answer.pin is not None else None
        if pinned is not None and window.kind in pinned.kinds:
            return pinned.name
        if claims:
            return claims[0][1]
        return answer.speech if window.kind == "speech" else answer.sound

    def _said_before(self, window: AudioWindow, skill: Skill) -> str:
        """What was written down of the window before, if this one begins with the end of it."""
        full = self._full
        if full is None or not skill.verbatim or window.kind != "speech":
            return ""
        return full.text if (full.window, full.skill) == (window.id - 1, skill.name) else ""

    def _prompt(self, ask: _Ask) -> Prompt:
        """The skill's prompt, shaped by the plugins; an instruction of the user's own is taken as it is."""
        pinned = self.profile.generation.model_dump(exclude_none=True)
        if ask.instruction is not None:
            return Prompt(ask.instruction, GenerationSettings(**{**ask.skill.settings, **OF_ONES_OWN, **pinned}))
        settings = GenerationSettings(**{**ask.skill.settings, **pinned})
        first = Prompt(ask.skill.instruction_in(self.profile.language), settings)
        prompt = self.host.shape(ask.window, ask.skill, first, self.past)
        return replace(prompt, settings=replace(prompt.settings, **pinned))

    def _audio(self, ask: _Ask, prompt: Prompt) -> Any:
        """The window's audio, with as much of the past windows that the prompt names as 30 s allow."""
        room = MOST_SECONDS - ask.window.duration_s
        parts = [ask.audio]
        for window_id in reversed(prompt.windows):
            heard = self.heard.get(window_id)
            if heard is None or window_id == ask.window.id or heard.window.duration_s > room:
                continue
            room -= heard.window.duration_s
            parts.insert(0, heard.audio)
        return self.core.join(parts) if len(parts) > 1 else ask.audio

    def _turn(self, ask: _Ask) -> Iterator[Event]:
        window, skill, clock = ask.window, ask.skill, ask.clock
        prompt = self._prompt(ask)
        yield from self._plugin_events()
        yield TurnStarted(
            window=window.id, kind=window.kind, skill=skill.name, prompt=prompt.instruction, claims=ask.claims
        )
        audio = self._audio(ask, prompt)
        text, tokens, end = yield from self._tokens(ask, prompt, audio)
        clock.mark("total")
        if ask.settled is not None:
            final = ask.settled()
            if final is None:
                return
            window = replace(final, kind=window.kind)
            ask = replace(ask, window=window, settled=None)
            self._keep(window, ask.audio)
            self.host.heard(window, self.past)
        if self.cancel.is_set():
            end = self.cancelled_as
        if skill.verbatim and window.end == "max_window" and window.kind == "speech" and end == "done":
            self._full = _Said(window.id, skill.name, text)
        words = self.core.transcript(audio, prompt)
        response = Response(text, skill.name, prompt, window.id, clock.timings(), end, tokens=tokens, words=words)
        yield from self._finish(ask, response)

    def _tokens(self, ask: _Ask, prompt: Prompt, audio: Any) -> Generator[Event, None, tuple[str, int, TurnEnd]]:
        """Yield the answer as it comes; returns its text, how many tokens it took and how it ended."""
        pieces: list[str] = []
        tokens = 0
        end: TurnEnd = "done"
        seam = Seam(ask.before, ask.window.overlap_s)
        for piece in self.core.stream(audio, prompt, self.cancel.is_set):
            if not tokens:
                ask.clock.mark("first_token")
                if words := self.core.transcript(audio, prompt):
                    yield Transcribed(window=ask.window.id, text=words)
            tokens += 1
            said, stopped_by = self.host.token(ask.window, ask.skill, piece)
            if stopped_by is not None:
                end = "stopped"
                break
            if shown := seam.push(said):
                pieces.append(shown)
                yield TokenGenerated(window=ask.window.id, text=shown)
        if rest := seam.rest():
            pieces.append(rest)
            yield TokenGenerated(window=ask.window.id, text=rest)
        return "".join(pieces).strip(), tokens, end

    def _finish(self, ask: _Ask, response: Response) -> Iterator[Event]:
        window, skill = ask.window, ask.skill
        whole = response.end in ("done", "stopped")
        if whole and ask.instruction is None:
            response = self.host.consume(window, skill, response, self.past)
        spent = dict(self.host.calls.hook_ms)
        timings = replace(response.timings_ms, hooks=sum(spent.values()))
        response = replace(response, timings_ms=timings)
        if whole and window.id not in self._forgotten:
            self._turns.append(_turn_of(window, response))
        yield from self._plugin_events()
        seen_by = self.host.seen_by()
        left = self.host.uses_network(seen_by)
        yield Responded(response=response, audio_s=window.duration_s, seen_by=seen_by, left_machine=left, hook_ms=spent)
        yield from self._after(ask, response)

    def _after(self, ask: _Ask, response: Response) -> Iterator[Event]:
        """Carry out the skill's actions, then show what the plugins want shown."""
        for action in response.actions:
            if isinstance(action, Ask):
                yield from self._follow_up(ask, action)
            else:
                yield self.act(action, ask.window, response.skill)
        if not ask.depth:
            panels = tuple((plugin, panel.title, panel.rows) for plugin, panel in self.host.panels(self.past))
            yield from self._plugin_events()
            if panels or self._panels:  # the last one that goes away is news, too
                yield PanelsChanged(panels=panels)
            self._panels = panels

    def _follow_up(self, ask: _Ask, action: Ask) -> Iterator[Event]:
        if ask.depth >= MOST_FOLLOW_UPS:
            raise UserError(f"skill {ask.skill.name} asks more than {MOST_FOLLOW_UPS} questions in a row; stopped")
        skill = self.host.skill(action.skill) if action.skill else ask.skill
        clock = _Clock(time.monotonic())
        yield from self._turn(
            replace(ask, skill=skill, instruction=action.instruction, clock=clock, depth=ask.depth + 1)
        )

    def _plugin_events(self) -> Iterator[Event]:
        events = self.host.calls.events
        while events:
            yield events.popleft()


@dataclass
class _Clock:
    begun: float
    marks: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        self.marks[name] = 1000.0 * (time.monotonic() - self.begun)

    def timings(self) -> Timings:
        return Timings(**(asdict(Timings()) | {"first_token": self.marks["total"]} | self.marks))


@dataclass(frozen=True)
class _Ask:
    """One question to one window."""

    window: AudioWindow
    audio: Any
    skill: Skill
    instruction: str | None
    claims: Claims
    clock: _Clock
    depth: int = 0
    settled: Settled | None = None
    before: str = ""  # what was written down of the window before, whose end this one begins with


@dataclass(frozen=True)
class _Said:
    """What was written down of a window."""

    window: int
    skill: str
    text: str


def _turn_of(window: AudioWindow, response: Response) -> Turn:
    return Turn(
        window.id,
        window.kind,
        response.skill,
        response.prompt.instruction,
        response.text,
        window.start_s,
        window.duration_s,
    )
