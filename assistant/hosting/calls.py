"""One call to one plugin: in its own thread, within its time, judged, counted."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from assistant.errors import UserError
from assistant.events import Event, PluginDisabled, PluginPrinted
from assistant.hosting.discovery import PluginState
from assistant.hosting.results import HOOKS, WrongResultError
from assistant.hosting.switches import remember_failure
from assistant.hosting.worker import Call, Worker
from assistant.profile import HookSettings
from assistant.records import HookRecorder

FORGIVEN_AFTER = 100  # calls that went well take back one strike: a loaded machine makes anybody late


class Calls:
    """Calls implementations, and keeps what has to be known about it.

    Attributes:
        events: what happened to plugins, for the loop to hand on.
        hook_ms: milliseconds spent, by "plugin.hook", since somebody emptied it.
        memory: each plugin's state in this conversation.
        recorder: told of each call, if a session is recorded.
    """

    def __init__(self, limits: HookSettings, tell: Callable[[PluginState, str], None]) -> None:
        self._limits, self._tell = limits, tell
        self._workers: dict[str, Worker] = {}
        self.events: deque[Event] = deque(maxlen=1000)
        self.hook_ms: dict[str, float] = {}
        self.memory: dict[str, dict[str, Any]] = {}
        self.recorder: HookRecorder | None = None

    def __call__(self, state: PluginState, implementation: Any, hook: str, arguments: dict[str, Any]) -> Any:
        """What the implementation returned, checked; None if it returned that, failed, is late or is off."""
        if state.disabled is not None or self._still_busy(state):
            return None
        offered = arguments | {"settings": state.settings, "state": self.memory.setdefault(state.name, {})}
        # Records are copied: what a plugin does to its own copy reaches nobody.
        taken = [_copied(offered[name]) for name in implementation.argnames]
        check = HOOKS[hook].check
        worker = self._worker(state.name)
        call = worker.call(lambda: _checked(implementation.function(*taken), check), self.budget_s(hook))
        self._count(f"{state.name}.{hook}", call)
        self._collect_prints(state, worker)
        value = self._judge(state, hook, call)
        if self.recorder is not None:
            self.recorder(state.name, hook, dict(zip(implementation.argnames, taken, strict=True)), value)
        return value

    def load(self, state: PluginState, read: Callable[[], Any]) -> Any:
        """The plugin's module, or None with the reason in its state."""
        worker = self._worker(state.name)
        call = worker.call(read, self._limits.setup_s)
        self._collect_prints(state, worker)
        if not call.done.is_set():
            self.disable(state, f"takes more than {self._limits.setup_s:g} s to import")
        elif call.error is not None:
            self.disable(state, f"failed at import: {_said(call.error)}")
        return call.value if state.disabled is None else None

    def budget_s(self, hook: str) -> float:
        limits = self._limits
        seconds = {"setup": limits.setup_s, "audio": limits.audio_ms / 1000.0, "response": limits.response_s}
        return seconds[HOOKS[hook].budget]

    def strike(self, state: PluginState, message: str) -> None:
        state.strikes += 1
        if state.strikes >= self._limits.strikes:
            self.disable(state, f"{message} (switched off after {state.strikes} failures)")
        else:
            self._tell(state, message)

    def disable(self, state: PluginState, reason: str) -> None:
        """Off for this session; the reason is kept for `assistant plugins list`."""
        state.disabled = reason
        self.events.append(PluginDisabled(plugin=state.name, reason=reason))
        remember_failure(state.name, reason)
        self._tell(state, reason)

    def forget(self, name: str) -> None:
        if name in self._workers:
            self._workers.pop(name).close()

    def close(self) -> None:
        for name in list(self._workers):
            self.forget(name)

    def _worker(self, name: str) -> Worker:
        return self._workers.setdefault(name, Worker(name))

    def _still_busy(self, state: PluginState) -> bool:
        worker = self._worker(state.name)
        if not worker.busy:
            return False
        if worker.stuck_s() > self._limits.hung_s:
            self.disable(state, f"hangs: a call has not come back for {self._limits.hung_s:g} s")
        return True

    def _count(self, key: str, call: Call) -> None:
        self.hook_ms[key] = self.hook_ms.get(key, 0.0) + 1000.0 * (time.monotonic() - call.begun)

    def _collect_prints(self, state: PluginState, worker: Worker) -> None:
        while worker.printed:
            self.events.append(PluginPrinted(plugin=state.name, text=worker.printed.pop(0).text.rstrip()))

    def _judge(self, state: PluginState, hook: str, call: Call) -> Any:
        problem = self._problem(hook, call)
        if problem is not None:
            self.strike(state, problem)
            return None
        state.well += 1
        if state.well % FORGIVEN_AFTER == 0:
            state.strikes = max(0, state.strikes - 1)
        return call.value

    def _problem(self, hook: str, call: Call) -> str | None:
        if not call.done.is_set():
            return f"took more than {1000 * self.budget_s(hook):g} ms in {hook}"
        if isinstance(call.error, WrongResultError):
            return f"{hook} {call.error}"
        return f"failed in {hook}: {_said(call.error)}" if call.error is not None else None


def _checked(value: Any, check: Callable[[Any], Any]) -> Any:
    if value is None:
        return None
    if hasattr(value, "__await__"):

        async def awaited() -> Any:
            return _checked(await value, check)

        return awaited()
    return check(value)


def _copied(value: Any) -> Any:
    return replace(value) if is_dataclass(value) and not isinstance(value, type) else value


def _said(error: BaseException) -> str:
    """What went wrong and, for the author, where."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).parent != Path(__file__).parent]
    where = f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else ""
    return f"{type(error).__name__}: {error}{where}"
