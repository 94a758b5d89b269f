"""What a test looks at: everything that came of one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from assistant.actions import Action
from assistant.events import ActionTaken, ErrorRaised, Event, PanelsChanged, Responded, TokenGenerated, TurnStarted
from assistant.records import Prompt, Response

E = TypeVar("E", bound=Event)


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
        return next((response.slots for response in self.responses if response.slots is not None), None)

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
        spent = self.all(Responded)[-1].hook_ms  # of follow-up questions, too
        slow = {key: ms for key, ms in spent.items() if key.split(".")[0] in self.plugins and ms > limit}
        assert not slow, f"longer than {limit:g} ms: {slow}"
