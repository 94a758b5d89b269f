"""One thread that does jobs in order, so that a slow disk delays neither the ears nor the tokens."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]


class Background:
    """Jobs are done in the order they were given.

    Args:
        failed: told what a job raised; the next job follows.
        idle: done once when the thread starts and then after every `idle_s` seconds without a job.
    """

    def __init__(
        self, name: str, failed: Callable[[Exception], None], idle: Job | None = None, idle_s: float = 3600.0
    ) -> None:
        self._failed, self._idle, self._idle_s = failed, idle, idle_s
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, job: Job) -> None:
        """Do it soon. Returns at once."""
        self._jobs.put(job)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Finish what was given. False if that took longer than `timeout_s`."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._try(self._idle)
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                self._try(self._idle)
                continue
            if job is None:
                return
            self._try(job)

    def _try(self, job: Job | None) -> None:
        try:
            if job is not None:
                job()
        except Exception as error:  # noqa: BLE001 - the owner says what it means; the thread must live on
            self._failed(error)
