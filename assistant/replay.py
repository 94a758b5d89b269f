"""Feeds a recorded session through the loop again, and compares windows, prompts and answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assistant.acting import told
from assistant.audio.source import cut
from assistant.audio.vad import VoiceDetector
from assistant.core import NEVER
from assistant.errors import UserError
from assistant.events import DeviceStateChanged, EarsChanged, Event, LevelMeasured, TokenGenerated
from assistant.recorded import Recorded
from assistant.recording import fingerprint, plain
from assistant.records import GenerationSettings, Prompt, WindowEnd, WindowKind
from assistant.session import TOO_FAR_BEHIND, Session
from assistant.turns import Turns

UNCHANGED = asdict(GenerationSettings())
NOT_RECORDED = "(the recording has no answer to this; --live asks the model)"
COMPARED = (
    "start_s",
    "duration_s",
    "reason",
    "kind",
    "dropped",
    "heard_as",
    "skill",
    "prompt",
    "answer",
    "slots",
    "end",
    "follow_ups",
)
ANSWER = COMPARED[4:]
Row = Mapping[str, Any]


class ReplaySource:
    """A recording's sound as a source; where a person cut a window by hand, it is cut again."""

    live = False

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self.name = str(recorded.about.get("source", recorded.folder))
        self.end: WindowEnd = recorded.about.get("end", "end_of_file")
        self.cut_now: Callable[[], None] = lambda: None
        self.toggle_talk: Callable[[], None] = lambda: None
        self._cuts = {e["frames"] for e in recorded.events if e["event"] == "window_closed" and e["reason"] == "manual"}
        self._talks = {
            e["frames"]
            for e in recorded.events
            if e["event"] == EarsChanged.name and e["change"] in ("talk_started", "talk_ended")
        }
        self._device: dict[int, list[DeviceStateChanged]] = {}  # by the number of frames heard before
        for row in recorded.events:
            if row["event"] == DeviceStateChanged.name:
                happened = DeviceStateChanged(state=row["state"], device=row["device"], reason=row["reason"])
                self._device.setdefault(row["frames"], []).append(happened)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray | DeviceStateChanged]:
        yield from self._device.get(0, ())
        for number, frame in enumerate(cut(self._recorded.blocks()), 1):
            if stopped():
                return
            if number - 1 in self._cuts:
                self.cut_now()  # the session does it before it feeds this frame, as it did then
            if number - 1 in self._talks:
                self.toggle_talk()
            yield frame
            yield from self._device.get(number, ())
            if number == self._recorded.frames and number in self._cuts:
                self.end = "manual"  # the session was stopped with an open window

    def dropped(self) -> int:
        return 0


class ReplayCore:
    """Gives the recorded answers: to the same sound and the same prompt, the same pieces. Needs no model."""

    def __init__(self, recorded: Recorded) -> None:
        self.name = str(recorded.about.get("model", "replay"))
        self.interrupt: Callable[[], None] = lambda: None
        self._words = ""
        self._kinds: dict[str, WindowKind] = {}
        self._failed: dict[str, str] = {}
        self._streams: dict[str, list[dict[str, Any]]] = {}
        for call in recorded.calls:
            self._take(call)

    def _take(self, call: dict[str, Any]) -> None:
        if call["call"] == "kind":
            self._kinds[call["sound"]] = call["kind"]
        elif call["call"] == "encode":
            self._failed[call["sound"]] = call["error"]
        else:
            self._add(self._streams.setdefault(_key(call["sound"], call["prompt"]), []), call)

    def _add(self, calls: list[dict[str, Any]], call: dict[str, Any]) -> None:
        """A whole answer counts, and not one to the same question that was thrown away."""
        if not call["cancelled"]:
            calls[:] = [earlier for earlier in calls if not earlier["cancelled"]]
        if not call["cancelled"] or all(earlier["cancelled"] for earlier in calls):
            calls.append(call)

    def encode(self, samples: np.ndarray) -> str:
        sound = fingerprint(samples)
        if sound in self._failed:
            raise UserError(self._failed[sound])
        return sound

    def join(self, parts: Sequence[str]) -> str:
        return "+".join(parts)

    def kind(self, audio: str) -> WindowKind:
        """As the model heard it then; speech for a window that it never heard."""
        return self._kinds.get(audio, "speech")

    def stream(self, audio: str, prompt: Prompt, cancelled: Callable[[], bool] = NEVER) -> Iterator[str]:
        self._words = ""  # what was not recorded has none, and not those of the answer before
        calls = self._streams.get(_key(audio, json.loads(json.dumps(asdict(prompt)))))
        if not calls:
            yield NOT_RECORDED
            return
        # The same sound twice in a session, such as a loop in a file: the answers come in their order.
        call = calls.pop(0) if len(calls) > 1 else calls[0]
        self._words = call.get("words", "")
        yield from call["pieces"]
        if "error" in call:
            raise UserError(call["error"])
        if call["cancelled"]:
            self.interrupt()

    def transcript(self, audio: str, prompt: Prompt) -> str:
        """What was written down before the last answer; recordings of before it was kept have none."""
        return self._words


def replay(source: ReplaySource, detector: VoiceDetector, turns: Turns, heard: Callable[[], None]) -> list[Row]:
    """Run the session again; a row for each window.

    Args:
        heard: told of each frame, for a progress bar.

    Raises:
        UserError: the recording is damaged.
    """
    events: list[Event] = []

    def emit(event: Event) -> None:
        heard() if isinstance(event, LevelMeasured) else events.append(event)

    session = Session(source, detector, turns, emit)
    source.cut_now, source.toggle_talk = session.cut_now, session.toggle_talk
    turns.act = told  # it was done when it was recorded; doing it again would surprise its owner
    if isinstance(turns.core, ReplayCore):
        turns.core.interrupt = turns.cancel.set
    session.run()
    return rows(json.loads(json.dumps(event.as_dict(), default=plain, skipkeys=True)) for event in events)


def rows(events: Iterable[Mapping[str, Any]]) -> list[Row]:
    """What became of each window, from the events of a session as JSON objects."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        row = found.get(event.get("window", 0))
        if event["event"] == "window_closed":
            keys = ("window", "start_s", "duration_s", "kind", "reason")
            found[event["window"]] = {key: event[key] for key in keys}
        elif row is not None:
            _tell(row, event)
    return list(found.values())


def _tell(row: dict[str, Any], event: Mapping[str, Any]) -> None:
    if event["event"] == "window_dropped":
        row["dropped"] = event["reason"]
        return
    if event["event"] == TokenGenerated.name:
        if event["text"] == NOT_RECORDED:
            row["missing"] = True
        return
    if event["event"] == "turn_started":
        told = {"heard_as": event["kind"], "skill": event["skill"], "prompt": event["prompt"]}
    elif event["event"] == "response":
        # What a skill would make of no answer, such as a caption in brackets, is none either.
        text = NOT_RECORDED if row.pop("missing", False) else event["text"]
        told = {"answer": text, "slots": event.get("slots"), "end": event["end"]}
    else:
        return
    if "answer" in row:  # a skill asked about its window once more
        row.setdefault("follow_ups", []).append(told)
    else:
        row |= told


@dataclass(frozen=True)
class Difference:
    """A window of the recording beside the replay's; one of them is None if only the other has it."""

    recorded: Row | None
    replayed: Row | None

    @property
    def unanswered(self) -> bool:
        """The session then was too far behind, or stopped, so that there is no answer to compare with."""
        then = self.recorded or {}
        return "skill" not in then and then.get("dropped") in (None, TOO_FAR_BEHIND)

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """What differs: the key, then, now."""
        if self.recorded is None or self.replayed is None:
            return {"window": (_place(self.recorded), _place(self.replayed))}
        keys = [key for key in COMPARED if not (self.unanswered and key in ANSWER)]
        pairs = {key: (self.recorded.get(key), self.replayed.get(key)) for key in keys}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def compare(recorded: Sequence[Row], replayed: Sequence[Row]) -> list[Difference]:
    """Pair the windows that overlap in time, in order."""
    then, now = list(recorded), list(replayed)
    pairs: list[Difference] = []
    while then or now:
        if then and now and _overlap(then[0], now[0]):
            pairs.append(Difference(then.pop(0), now.pop(0)))
        elif not now or (then and then[0]["start_s"] <= now[0]["start_s"]):
            pairs.append(Difference(then.pop(0), None))
        else:
            pairs.append(Difference(None, now.pop(0)))
    return pairs


def _overlap(one: Row, other: Row) -> bool:
    """Whether the shorter one lies for more than half in the longer one."""
    start = max(one["start_s"], other["start_s"])
    end = min(one["start_s"] + one["duration_s"], other["start_s"] + other["duration_s"])
    return bool(end - start > 0.5 * min(one["duration_s"], other["duration_s"]))


def _place(row: Row | None) -> str | None:
    return None if row is None else f"{row['start_s']:.2f} s + {row['duration_s']:.2f} s"


def _key(sound: str, prompt: Mapping[str, Any]) -> str:
    # Without what is as ever: a recording from before there was a setting still answers prompts that leave it alone.
    changed = {name: value for name, value in prompt["settings"].items() if value != UNCHANGED.get(name)}
    return f"{sound} {json.dumps({**prompt, 'settings': changed}, sort_keys=True)}"
