"""An answer that is begun at a short pause, before it is sure that the window is over.

The ears decide: speech goes on and it is discarded, or the silence is long enough and its words, held back until
then, are there at once. Nothing of a discarded answer is seen by the screen, the history or `consume_response`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from assistant.records import AudioWindow

POLL_S = 0.02


@dataclass(eq=False)
class Early:
    """One such answer.

    Attributes:
        window: what was heard up to the pause; the final window has the same id.
        final: the window as it ended, once that is confirmed.
    """

    window: AudioWindow
    final: AudioWindow | None = None
    _decided: threading.Event = field(default_factory=threading.Event)

    @property
    def decided(self) -> bool:
        return self._decided.is_set()

    @property
    def discarded(self) -> bool:
        return self.decided and self.final is None

    def confirm(self, final: AudioWindow) -> None:
        """The window is over; `final` adds silence at most."""
        self.final = final
        self._decided.set()

    def discard(self) -> None:
        """Speech goes on."""
        self._decided.set()

    def decision(self, stopped: Callable[[], bool]) -> AudioWindow | None:
        """Wait for it: the final window, or None."""
        while not self._decided.wait(POLL_S):
            if stopped():
                return None
        return self.final
