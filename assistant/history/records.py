"""What history keeps of a turn."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class KeptSession:
    """One run of the loop, or one `ask --keep`.

    Attributes:
        started_at: seconds since 1970.
        device: the microphone or file that was heard.
    """

    started_at: float
    profile: str
    model: str
    device: str
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class KeptWindow:
    """One window as the gate cut it.

    Attributes:
        number: the window's id in its session.
        closed_at: seconds since 1970.
        start_s: where it begins in the stream.
        reason: why it ended.
    """

    number: int
    closed_at: float
    start_s: float
    duration_s: float
    reason: str
    level_dbfs: float


@dataclass(frozen=True)
class KeptTurn:
    """One answer about one window, as it is stored.

    Attributes:
        id: what `assistant history show` and `forget` take; 0 until it is stored.
        kind: speech or sound, by the model's own hearing.
        prompt: None where the profile keeps no text; the same for `answer`, `slots` and `said`.
        said: the words that were written down of the speech, if the skill had that done.
        end: how the turn ended: done, cancelled, superseded or failed.
        kept_audio: whether the window's sound is stored too.
        seen_by: plugins that were given the window.
        left_machine: whether one of them declared that it uses the network.
    """

    session: KeptSession
    window: KeptWindow
    kind: str
    skill: str
    prompt: str | None
    answer: str | None
    slots: Mapping[str, Any] | None
    timings_ms: Mapping[str, float]
    end: str
    seen_by: tuple[str, ...] = ()
    left_machine: bool = False
    kept_audio: bool = False
    said: str | None = None
    id: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of this turn, flat."""
        window = asdict(self.window)
        return {
            "id": self.id,
            "time": clock_time(window.pop("closed_at")),
            "session": self.session.uid,
            "profile": self.session.profile,
            "model": self.session.model,
            "device": self.session.device,
            "window": window.pop("number"),
            **window,
            "kind": self.kind,
            "skill": self.skill,
            "said": self.said,
            "prompt": self.prompt,
            "answer": self.answer,
            "slots": None if self.slots is None else dict(self.slots),
            "timings_ms": dict(self.timings_ms),
            "end": self.end,
            "kept_text": self.answer is not None,
            "kept_audio": self.kept_audio,
            "seen_by": list(self.seen_by),
            "left_machine": self.left_machine,
        }


def clock_time(seconds: float) -> str:
    """Local time, ISO 8601 to the second, of seconds since 1970."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def privacy_line(turn: KeptTurn) -> str:
    """What became of a window: what is kept of it, who saw it, whether anything left the machine."""
    text = "text kept" if turn.answer is not None else "text not kept"
    audio = "audio kept" if turn.kept_audio else "audio not kept"
    seen = f"seen by {', '.join(turn.seen_by)}" if turn.seen_by else "seen by no plugin"
    left = "one of them uses the network" if turn.left_machine else "none of them declares network use"
    return f"{text}; {audio}; {seen}; {left}"
