"""What is known of each window and each turn, put together from the events. No widgets here."""

from __future__ import annotations

from dataclasses import dataclass, field

from assistant.events import (
    ActionTaken,
    Event,
    LevelMeasured,
    Responded,
    TokenGenerated,
    Transcribed,
    TurnStarted,
    WindowClosed,
    WindowDropped,
    WindowOpened,
    WindowPaused,
    WindowResumed,
)
from assistant.profile import HearingSettings
from assistant.records import WindowKind

KEPT = 200  # windows whose story is kept


@dataclass
class TurnStory:
    """One answer to one window; a window that is asked again has several."""

    window: WindowStory
    number: int  # in its window, from 1
    started: TurnStarted | None = None
    text: str = ""
    words: str = ""  # what was written down of the speech first
    responded: Responded | None = None
    dropped: str | None = None  # the reason, if nobody answered
    actions: list[ActionTaken] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"turn-{self.window.id}-{self.number}"


@dataclass
class WindowStory:
    """One window: how it opened, how it ended, who answered."""

    id: int
    hearing: HearingSettings
    profile: str
    opened: WindowOpened | None = None
    level: LevelMeasured | None = None  # at the moment of opening
    closed: WindowClosed | None = None
    turns: list[TurnStory] = field(default_factory=list)

    @property
    def kind(self) -> WindowKind | None:
        """What the model heard, or the gate if the model has not said yet."""
        started = next((turn.started for turn in self.turns if turn.started), None)
        return started.kind if started else self.closed.kind if self.closed else None


class Trail:
    """Follows the events; the last `KEPT` windows are remembered."""

    def __init__(self) -> None:
        self.windows: dict[int, WindowStory] = {}
        self._opening: WindowStory | None = None

    def follow(self, event: Event, hearing: HearingSettings, profile: str) -> TurnStory | None:
        """Take an event in; returns the turn that it changed, if it changed one."""
        if isinstance(event, LevelMeasured):
            if self._opening is not None:
                self._opening.level, self._opening = event, None
            return None
        if isinstance(event, WindowOpened):
            self._opening = self._story(event.window, hearing, profile)
            self._opening.opened = event
            return None
        if isinstance(event, WindowClosed):
            story = self._story(event.window, hearing, profile)
            story.closed = event
            return self._next_turn(story)
        if isinstance(event, (WindowPaused, WindowResumed)):  # the window is still open
            return None
        return self._answered(event)

    def _answered(self, event: Event) -> TurnStory | None:
        number = event.response.window_id if isinstance(event, Responded) else getattr(event, "window", None)
        story = self.windows.get(number) if isinstance(number, int) else None
        if story is None:
            return None
        turn = story.turns[-1] if story.turns else self._next_turn(story)
        match event:
            case TurnStarted():
                turn = self._next_turn(story) if turn.started or turn.dropped else turn
                turn.started = event
            case Transcribed():
                turn.words = event.text
            case TokenGenerated():
                turn.text += event.text
            case ActionTaken():
                turn = _asker(story, event)
                turn.actions.append(event)
            case WindowDropped():
                turn.dropped = event.reason
            case Responded():
                turn.responded = event
        return turn

    def forget(self, number: int) -> WindowStory | None:
        return self.windows.pop(number, None)

    def clear(self) -> None:
        self.windows.clear()

    def _story(self, number: int, hearing: HearingSettings, profile: str) -> WindowStory:
        if number not in self.windows:
            self.windows[number] = WindowStory(number, hearing, profile)
            while len(self.windows) > KEPT:
                del self.windows[next(iter(self.windows))]
        return self.windows[number]

    def _next_turn(self, story: WindowStory) -> TurnStory:
        story.turns.append(TurnStory(story, len(story.turns) + 1))
        return story.turns[-1]


def _asker(story: WindowStory, event: ActionTaken) -> TurnStory:
    """The turn whose skill asked for it: a follow-up question may have been answered in between."""
    answered = (turn for turn in reversed(story.turns) if turn.started and turn.started.skill == event.skill)
    return next(answered, story.turns[-1])
