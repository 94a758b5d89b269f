"""A recorded session through the plugins under test: cut and answered as it was then, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from assistant.errors import UserError
from assistant.events import ErrorRaised, Event
from assistant.recorded import Recorded
from assistant.testing.heard import Heard


@dataclass(frozen=True)
class Replayed:
    """A session that ran again.

    Attributes:
        heard: what came of each window that was answered or refused, in their order.
        changes: what is not as it was recorded, by window: the key, then (recorded, now); empty if all is the same.
    """

    heard: tuple[Heard, ...]
    changes: tuple[Mapping[str, tuple[Any, Any]], ...]

    def __iter__(self) -> Iterator[Heard]:
        return iter(self.heard)

    def __getitem__(self, window: int) -> Heard:
        return self.heard[window]

    def __len__(self) -> int:
        return len(self.heard)


def run_again(recorded: Recorded, turns: Any, collect: Callable[[list[Event]], Heard]) -> Replayed:
    """Cut and answer the recording's sound by the profile of `turns`.

    Args:
        collect: makes a `Heard` of the events of one turn.
    """
    from assistant.audio.vad import make_detector
    from assistant.replay import NOT_RECORDED, ReplaySource, compare, replay, rows

    heard = _listen_in(turns, collect)
    detector = make_detector(turns.profile.hearing)
    now = replay(ReplaySource(recorded), detector, turns, lambda: None)
    for one in heard:
        if NOT_RECORDED in one.tokens:
            pytest.fail(
                f"{recorded.folder} has no answer to {one.prompt.instruction!r}, which skill {one.skill} asks now: "
                "record it again, or pass words=[...] or core='tiny'"
            )
    pairs = compare(rows(recorded.events), now)
    return Replayed(tuple(heard), tuple(pair.changes for pair in pairs if pair.changes))


def _listen_in(turns: Any, collect: Callable[[list[Event]], Heard]) -> list[Heard]:
    """Have each turn's events collected while the loop consumes them."""
    heard: list[Heard] = []
    answer = turns.answer

    def listened(*given: Any, **options: Any) -> Iterator[Event]:
        events: list[Event] = []
        try:
            for event in answer(*given, **options):
                events.append(event)
                yield event
        except UserError as error:
            events.append(ErrorRaised(source="turn", message=str(error)))
            raise
        finally:
            heard.append(collect(events))

    turns.answer = listened
    return heard
