"""Cuts a stream of frames into windows. A pure state machine: frames in, events and windows out.

Two gates open a window: enough voiced frames (speech), or a level well above a running noise floor
(sound: dogs, alarms, music, which a speech detector drops). Each window ends with its reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from assistant.audio.vad import VoiceDetector
from assistant.events import Event, LevelMeasured, WindowClosed, WindowDropped, WindowOpened
from assistant.profile import HearingSettings
from assistant.records import FRAME_S, AudioWindow, WindowEnd, WindowKind

SILENCE_DBFS = -100.0
FLOOR_START_DBFS = -60.0
FLOOR_FALL, FLOOR_RISE = 0.2, 0.004  # per frame: falls within a tenth of a second, rises over some ten seconds
SPEECH_SHARE = 0.4  # so much of what was above the gate must be voiced for a window to be speech


def level_dbfs(samples: np.ndarray) -> float:
    """Root mean square in dB below full scale."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10.0 * np.log10(power) if power > 1e-10 else SILENCE_DBFS


@dataclass
class _Open:
    """A window that is being heard."""

    id: int
    kind: WindowKind
    start_s: float
    frames: list[np.ndarray]
    voiced: int = 0
    loud: int = 0
    quiet: int = 0  # frames since the last active one


@dataclass
class Segmenter:
    """Feed it frames; it yields what happened, and `AudioWindow`s as they close."""

    settings: HearingSettings
    detector: VoiceDetector
    source: str
    _open: _Open | None = None
    _floor: float = FLOOR_START_DBFS
    _count: int = 0
    _heard: int = 0
    _recent_voiced: deque[bool] = field(init=False)
    _recent_loud: deque[bool] = field(init=False)
    _pre_roll: deque[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        # 1.5 x the needed voice, so that a stop consonant does not start the count anew.
        self._recent_voiced = deque(maxlen=frames(s.start_voiced_s * 1.5))
        self._recent_loud = deque(maxlen=frames(s.sound_start_s))
        self._pre_roll = deque(maxlen=frames(s.pre_roll_s + s.start_voiced_s * 1.5))

    def feed(self, frame: np.ndarray) -> Iterator[Event | AudioWindow]:
        """Hear one frame of (480,) float32."""
        level = level_dbfs(frame)
        voiced = self.detector.is_speech(frame)
        threshold = max(self._floor + self.settings.sound_margin_db, self.settings.sound_min_dbfs)
        loud = level > threshold
        self._heard += 1
        self._recent_voiced.append(voiced)
        self._recent_loud.append(loud)
        if self._open is None:
            self._pre_roll.append(frame)
            yield from self._maybe_open()
        else:
            self._open.frames.append(frame)
            yield from self._go_on(self._open, voiced, loud)
        self._follow_floor(level)
        kind = self._open.kind if self._open else None
        yield LevelMeasured(
            level_dbfs=level, noise_floor_dbfs=self._floor, threshold_dbfs=threshold, voiced=voiced, open_kind=kind
        )

    def _follow_floor(self, level: float) -> None:
        if self._open is not None and self._open.kind == "speech" and level > self._floor:
            return  # a long speech is no noise to get used to
        rate = FLOOR_FALL if level < self._floor else FLOOR_RISE
        self._floor += rate * (max(level, SILENCE_DBFS) - self._floor)

    def _maybe_open(self) -> Iterator[Event]:
        s = self.settings
        speech = sum(self._recent_voiced) >= frames(s.start_voiced_s) and any(self._recent_loud)
        # The sound gate is quicker; what may yet turn out to be speech is left to the other one.
        maybe_speech = 2 * sum(self._recent_voiced) > len(self._recent_loud)
        loud = len(self._recent_loud) == self._recent_loud.maxlen and all(self._recent_loud)
        sound = s.sounds and loud and not maybe_speech
        if not (speech or sound):
            return
        self._count += 1
        kind: WindowKind = "speech" if speech else "sound"
        start_s = (self._heard - len(self._pre_roll)) * FRAME_S
        self._open = _Open(self._count, kind, start_s, list(self._pre_roll))
        self._open.voiced, self._open.loud = sum(self._recent_voiced), sum(self._recent_loud)
        self._pre_roll.clear()
        yield WindowOpened(window=self._count, kind=kind, start_s=round(start_s, 3))

    def _go_on(self, window: _Open, voiced: bool, loud: bool) -> Iterator[Event | AudioWindow]:
        window.voiced += voiced
        window.loud += loud
        if window.kind == "sound" and self._mostly_voiced(window):
            window.kind = "speech"
        active = voiced if window.kind == "speech" else loud
        window.quiet = 0 if active else window.quiet + 1
        if window.quiet >= frames(self.settings.end_silence_s):
            yield from self.flush("silence")
        elif len(window.frames) >= frames(self.settings.max_window_s):
            yield from self.flush("max_window")

    def _mostly_voiced(self, window: _Open) -> bool:
        enough = window.voiced >= frames(self.settings.start_voiced_s)
        return enough and window.voiced >= SPEECH_SHARE * max(1, window.loud)

    def flush(self, reason: WindowEnd) -> Iterator[Event | AudioWindow]:
        """End the open window, if there is one, for the reason given."""
        window, self._open = self._open, None
        if window is None:
            return
        self._recent_voiced.clear()
        self._recent_loud.clear()
        samples = np.concatenate(window.frames)
        kind: WindowKind = "speech" if self._mostly_voiced(window) else "sound"
        active = window.voiced if kind == "speech" else window.loud
        level = round(level_dbfs(samples), 1)
        closed = AudioWindow(window.id, samples, kind, round(window.start_s, 3), reason, level, self.source)
        yield WindowClosed(
            window=window.id,
            kind=kind,
            reason=reason,
            start_s=closed.start_s,
            duration_s=round(closed.duration_s, 3),
            level_dbfs=level,
        )
        if active * FRAME_S < self.settings.min_active_s:
            yield WindowDropped(window=window.id, reason="too short")
        elif kind == "speech" or self.settings.sounds:
            yield closed
        else:
            yield WindowDropped(window=window.id, reason="no speech, and the profile ignores sounds")


def frames(seconds: float) -> int:
    """Frames of 30 ms in so many seconds, at least one."""
    return max(1, round(seconds / FRAME_S))
