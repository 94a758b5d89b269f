"""Several conversations side by side, whose questions the model answers in one batch.

Only one of them runs at a time: each goes on until it asks the model something, and when all are waiting they are
answered together. So plugins see nothing of it, and each conversation goes as it would alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from greenlet import getcurrent, greenlet

from assistant.core import KIND_PROMPT, NEVER, Core, kind_of
from assistant.errors import UserError
from assistant.plugin_host import PluginHost
from assistant.records import Prompt, WindowKind

Question = tuple[Any, Prompt]
Answer = list[str] | UserError
T = TypeVar("T")


@runtime_checkable
class ManyCore(Core, Protocol):
    """A core that answers several questions at once."""

    def stream_many(self, questions: Sequence[Question]) -> list[list[str]]:
        """Of each (audio, prompt) the pieces that `stream` would yield."""
        ...


class _SharedCore:
    """The core as a conversation sees it: what it asks is answered with what the others ask."""

    def __init__(self, core: ManyCore) -> None:
        self._core, self.name, self._scheduler = core, core.name, getcurrent()

    def encode(self, samples: np.ndarray) -> Any:
        return self._core.encode(samples)

    def kind(self, audio: Any) -> WindowKind:
        return kind_of("".join(self.stream(audio, KIND_PROMPT)))

    def join(self, parts: Sequence[Any]) -> Any:
        return self._core.join(parts)

    def stream(self, audio: Any, prompt: Prompt, cancelled: Callable[[], bool] = NEVER) -> Iterator[str]:
        answer: Answer = self._scheduler.switch((audio, prompt))
        if isinstance(answer, UserError):
            raise answer
        yield from answer

    def transcript(self, audio: Any, prompt: Prompt) -> str:
        return self._core.transcript(audio, prompt)


def side_by_side(
    core: ManyCore, hosts: Sequence[PluginHost], jobs: Sequence[Callable[[Core, PluginHost], T]]
) -> Iterator[T]:
    """What each job returns, in their order, as soon as it and those before it are done.

    Args:
        hosts: as many jobs run side by side; a host serves one job after the other.
    """
    shared = _SharedCore(core)
    free, todo = deque(hosts), deque(enumerate(jobs))
    waiting: dict[greenlet, tuple[int, PluginHost, Question]] = {}
    done: dict[int, T] = {}
    following = 0

    def go_on(conversation: greenlet, number: int, host: PluginHost, *given: Any) -> None:
        came = conversation.switch(*given)
        if conversation.dead:
            done[number] = came
            free.append(host)
        else:
            waiting[conversation] = number, host, came

    while following < len(jobs):
        while todo and free:
            number, job = todo.popleft()
            host = free.popleft()
            go_on(greenlet(job), number, host, shared, host)
        if following in done:
            yield done.pop(following)
            following += 1
            continue
        asked, waiting = waiting, {}
        answers = _answers(core, [question for _, _, question in asked.values()])
        for (conversation, (number, host, _)), answer in zip(asked.items(), answers, strict=True):
            go_on(conversation, number, host, answer)


def _answers(core: ManyCore, questions: Sequence[Question]) -> list[Answer]:
    """Together; if one of them cannot be answered, one by one, so that it spoils no other."""
    try:
        return list(core.stream_many(questions))
    except UserError:
        return [_alone(core, question) for question in questions]


def _alone(core: ManyCore, question: Question) -> Answer:
    try:
        return core.stream_many([question])[0]
    except UserError as error:
        return error
