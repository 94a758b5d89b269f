"""One thread for each plugin, so that a call can be given up when its time is over."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assistant.hosting.prints import Printed, listen_to_prints


@dataclass
class Call:
    """One call under way. `done` is set when it has returned or raised."""

    function: Callable[[], Any]
    begun: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    error: BaseException | None = None

    def run(self) -> None:
        try:
            value = self.function()
            self.value = asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of a plugin are its own, too
            self.error = error
        finally:
            self.done.set()


async def _awaited(value: Any) -> Any:
    return await value


class Worker:
    """Calls a plugin's functions one after the other in a thread that is its own.

    A call that takes longer than its budget is left behind: its result is thrown away when it comes, and until
    then the worker is `busy`. Python cannot stop a thread; one that never returns stays, asleep or not, to the end
    of the process (the thread is a daemon, so the process can end).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.printed: list[Printed] = []
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._current: Call | None = None

    @property
    def busy(self) -> bool:
        """Whether a call that was given up is still running."""
        return self._current is not None and not self._current.done.is_set()

    def stuck_s(self) -> float:
        """For how long the running call has been running."""
        return time.monotonic() - self._current.begun if self._current and self.busy else 0.0

    def call(self, function: Callable[[], Any], budget_s: float) -> Call:
        """Run it and wait at most `budget_s`; look at `done`, `error` and `value` of what comes back."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"plugin {self.name}", daemon=True)
            self._thread.start()
        listen_to_prints()
        self._current = call = Call(function)
        self._calls.put(call)
        call.done.wait(budget_s)
        return call

    def close(self) -> None:
        """Let the thread end when its last call has."""
        self._calls.put(None)
        self._thread = None

    def _work(self) -> None:
        Printed.of_this_thread(self.printed)
        while (call := self._calls.get()) is not None:
            call.run()
