"""What happens, in the past tense: the one language between the loop and every front end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

from assistant.records import DeviceState, Response, WindowEnd, WindowKind

EarsChange = Literal["muted", "unmuted", "paused", "resumed", "talk_started", "talk_ended"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Anything a front end may show. `t` is seconds on the monotonic clock."""

    name: ClassVar[str] = "event"
    t: float = field(default_factory=time.monotonic)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of this event, its kind under `event`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "t"}
        return {"event": self.name, "t": round(self.t, 4)} | values


@dataclass(frozen=True, kw_only=True)
class Listening(Event):
    """The source is open and its first frame has come."""

    name: ClassVar[str] = "listening"
    source: str
    profile: str
    model: str


@dataclass(frozen=True, kw_only=True)
class LevelMeasured(Event):
    """One frame was heard. For meters; not written as JSON unless asked for."""

    name: ClassVar[str] = "level"
    level_dbfs: float
    noise_floor_dbfs: float
    threshold_dbfs: float
    voiced: bool
    open_kind: WindowKind | None
    novelty_db: float = 0.0  # how far the bands that stand out most are above their floors


@dataclass(frozen=True, kw_only=True)
class WindowOpened(Event):
    """`update` is true if nothing new sounds: it is told once more of a sound that goes on and on."""

    name: ClassVar[str] = "window_opened"
    window: int
    kind: WindowKind
    start_s: float
    update: bool = False


@dataclass(frozen=True, kw_only=True)
class WindowClosed(Event):
    name: ClassVar[str] = "window_closed"
    window: int
    kind: WindowKind
    reason: WindowEnd
    start_s: float
    duration_s: float
    level_dbfs: float
    silence_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WindowPaused(Event):
    """An open speech window fell quiet; it may be over. `Segmenter.so_far` has what was heard of it."""

    name: ClassVar[str] = "window_paused"
    window: int
    silence_s: float


@dataclass(frozen=True, kw_only=True)
class WindowResumed(Event):
    """It was not over."""

    name: ClassVar[str] = "window_resumed"
    window: int


@dataclass(frozen=True, kw_only=True)
class EarsChanged(Event):
    """A person muted, paused or pressed to talk, or took it back; it holds from the next frame on."""

    name: ClassVar[str] = "ears"
    change: EarsChange


@dataclass(frozen=True, kw_only=True)
class WindowDropped(Event):
    """A window could not be answered because the assistant was too far behind."""

    name: ClassVar[str] = "window_dropped"
    window: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FramesDropped(Event):
    """The audio queue was full; so many frames of 30 ms were lost since the last such event."""

    name: ClassVar[str] = "frames_dropped"
    count: int


@dataclass(frozen=True, kw_only=True)
class TurnStarted(Event):
    """Somebody answers. `kind` is the model's own hearing; `window_opened` and `window_closed` have the gate's."""

    name: ClassVar[str] = "turn_started"
    window: int
    kind: WindowKind
    skill: str
    prompt: str
    claims: tuple[tuple[str, str, float], ...] = ()  # plugin, skill, score; the first one won


@dataclass(frozen=True, kw_only=True)
class Transcribed(Event):
    """What was written down of the speech, before the first token of an answer that rests on it."""

    name: ClassVar[str] = "transcript"
    window: int
    text: str


@dataclass(frozen=True, kw_only=True)
class TokenGenerated(Event):
    name: ClassVar[str] = "token"
    window: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Responded(Event):
    """An answer is complete (or was cancelled: see `response.end`).

    `seen_by` names the plugins that were given the window; `left_machine` is true if one of them declared network use.
    """

    name: ClassVar[str] = "response"
    response: Response
    audio_s: float
    seen_by: tuple[str, ...] = ()
    left_machine: bool = False
    hook_ms: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        response = self.response
        values: dict[str, Any] = {
            "window": response.window_id,
            "skill": response.skill,
            "prompt": response.prompt.instruction,
            "text": response.text,
            "audio_s": round(self.audio_s, 3),
            "lora_scale": response.prompt.settings.lora_scale,
            "end": response.end,
            "timings_ms": {key: round(value, 1) for key, value in asdict(response.timings_ms).items()},
        }
        if response.words:
            values["words"] = response.words
        if response.slots is not None:
            values["slots"] = dict(response.slots)
        if self.seen_by:
            values |= {"seen_by": list(self.seen_by), "left_machine": self.left_machine}
        if self.hook_ms:
            values["hook_ms"] = {key: round(value, 2) for key, value in self.hook_ms.items()}
        return {"event": self.name, "t": round(self.t, 4)} | values


@dataclass(frozen=True, kw_only=True)
class ErrorRaised(Event):
    """Something went wrong and the loop goes on; `source` names the plugin, device or stage."""

    name: ClassVar[str] = "error"
    source: str
    message: str


@dataclass(frozen=True, kw_only=True)
class DeviceStateChanged(Event):
    """The microphone came, went, or is another one now; `reason` says why, for people.

    A window that was open when the device went ends with `device_lost`.
    """

    name: ClassVar[str] = "device_state"
    state: DeviceState
    device: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PluginDisabled(Event):
    """A plugin is off for the rest of the session."""

    name: ClassVar[str] = "plugin_disabled"
    plugin: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PluginReloaded(Event):
    """The file of a plugin was saved and has been read again."""

    name: ClassVar[str] = "plugin_reloaded"
    plugin: str


@dataclass(frozen=True, kw_only=True)
class PluginPrinted(Event):
    """A plugin printed something; it is kept off the screen and out of the JSON lines."""

    name: ClassVar[str] = "plugin_printed"
    plugin: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ActionTaken(Event):
    """Something that a skill asked for was done: `kind` is show, notify, write or record."""

    name: ClassVar[str] = "action"
    window: int
    skill: str
    kind: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PanelsChanged(Event):
    """What the plugins show beside the conversation: (plugin, title, rows)."""

    name: ClassVar[str] = "panels"
    panels: tuple[tuple[str, str, tuple[tuple[str, ...], ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    name: ClassVar[str] = "stopped"
    reason: str
    windows: int
    answers: int
