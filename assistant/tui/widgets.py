"""The parts of the screen: status line, level meter, one view a turn."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from assistant.events import LevelMeasured, WindowClosed
from assistant.records import Response

METER_WIDTH = 40
METER_FLOOR_DBFS = -80.0
SLOW_MS = 1000.0
ORDER = ("state", "muted", "profile", "skill", "model", "source", "latency")


class StatusLine(Static):
    """What is true right now, in words: state, profile, skill, model, source, latency of the last turn."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._parts: dict[str, str] = {"state": "loading"}

    def show(self, **parts: str) -> None:
        self._parts |= parts
        labels = {"profile": "profile ", "skill": "speech answered by "}
        shown = [labels.get(k, "") + self._parts[k] for k in ORDER if self._parts.get(k)]
        self.update("  |  ".join(shown))


def column(level_dbfs: float) -> int:
    """Where a level stands on the meter, 0 to METER_WIDTH."""
    share = (level_dbfs - METER_FLOOR_DBFS) / -METER_FLOOR_DBFS
    return round(max(0.0, min(1.0, share)) * METER_WIDTH)


class LevelMeter(Static):
    """Level, threshold (|) and what the gate thinks, without relying on colour."""

    def show(self, event: LevelMeasured) -> None:
        filled, mark = column(event.level_dbfs), column(event.threshold_dbfs)
        bar = "".join("|" if i == mark else "█" if i < filled else "·" for i in range(METER_WIDTH + 1))
        thinks = event.open_kind or "quiet"
        voice = "voice" if event.voiced else "     "
        self.update(Text(f"{bar} {event.level_dbfs:6.1f} dBFS  {voice}  {thinks}"))


class TurnView(Static):
    """One window and its answer."""

    def __init__(self, window: WindowClosed) -> None:
        super().__init__(id=f"turn-{window.window}")
        self._kind: str = window.kind
        self._head = f"{window.duration_s:.1f} s, ended by {window.reason.replace('_', ' ')}"
        self._text, self._foot, self._skill = "", "", ""
        self._show()

    def start(self, kind: str, skill: str) -> None:
        self._kind = kind
        self._skill = skill
        self._show()

    def add(self, piece: str) -> None:
        self._text += piece
        self._show()

    def drop(self, reason: str) -> None:
        self._foot = f"not answered: {reason}"
        self._show()

    def finish(self, response: Response) -> None:
        """Show the final text, the record, the timing; a slow turn and a cancelled one say so."""
        self._text = response.text
        timings = response.timings_ms
        slow = "  slow" if timings.first_token > SLOW_MS else ""
        cancelled = "  (cancelled)" if response.end == "cancelled" else ""
        self._foot = (
            f"encode {timings.encode:.0f} ms, first token {timings.first_token:.0f} ms, "
            f"all {timings.total:.0f} ms{slow}{cancelled}"
        )
        if response.slots is not None:
            self._text = "\n".join(f"{name}: {value}" for name, value in response.slots.items())
        self._show()

    def _show(self) -> None:
        skill = f"  ->  {self._skill}" if self._skill else ""
        text = Text(f"{self._kind}, {self._head}{skill}\n", style="dim")
        text.append(self._text.strip() or "...", style="not dim")
        if self._foot:
            text.append(f"\n{self._foot}", style="dim italic")
        self.update(text)
