"""Cuts a stream of frames into windows. A pure state machine: frames in, events and windows out.

    closed --enough voice--> speech --silence-> closed      a voiced frame counts if it stands out from the floor
                             speech --full----> speech      and is the talker's (`talker.py`); full windows overlap
    closed --loud or new---> sound ---silence-> closed
                             sound ---voice---> speech      one window if the sound has just begun, otherwise two
                             sound ---goes on-> closed      told again at intervals until it stops (`steady.py`)

Two gates open a window: enough voiced frames (speech), or a level or spectrum well above the running floor (sound:
dogs, alarms, music, which a speech detector drops). A person may hold one open (`hold`): only they end it, and if the
mode is `push_to_talk` there is no other way. Each window ends with its reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from assistant.audio.background import Background, Heard, level_dbfs
from assistant.audio.steady import SteadySound
from assistant.audio.talker import Behind, Talker
from assistant.audio.vad import VoiceDetector
from assistant.events import (
    Event,
    LevelMeasured,
    WindowClosed,
    WindowDropped,
    WindowOpened,
    WindowPaused,
    WindowResumed,
)
from assistant.profile import HearingSettings
from assistant.records import FRAME_S, AudioWindow, WindowEnd, WindowKind

SPEECH_SHARE = 0.4  # so much of what was above the gate must be voiced for a window to be speech
NOTHING_DBFS = -75.0  # below what any open microphone gives in any room
HESITATION_S = 0.2  # a shorter pause may be a stop consonant
OPENING_DB = 3.0  # what is this far below the louder moments of what goes on already opens no window


@dataclass
class _Open:
    """A window that is being heard."""

    id: int
    kind: WindowKind
    start_s: float
    frames: list[np.ndarray]
    talker: Talker
    overlap: int = 0  # of its frames
    voiced: int = 0
    loud: int = 0
    quiet: int = 0  # frames since the last active one
    hesitated: bool = False  # its talker paused, and went on
    paused: bool = False
    held: bool = False


@dataclass
class Segmenter:
    """Feed it frames; it yields what happened, and `AudioWindow`s as they close."""

    settings: HearingSettings
    detector: VoiceDetector
    source: str
    _open: _Open | None = None
    _count: int = 0
    _heard: int = 0
    _repeated: int = 0  # of the frames in the pre-roll, so many were in the last window
    _background: Background = field(default_factory=Background)
    _behind: Behind = field(default_factory=Behind)
    _recent_voiced: deque[bool] = field(init=False)
    _recent_loud: deque[bool] = field(init=False)
    _pre_roll: deque[np.ndarray] = field(init=False)
    _steady: SteadySound = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        # 1.5 x the needed voice, so that a stop consonant does not start the count anew.
        self._recent_voiced = deque(maxlen=frames(s.start_voiced_s * 1.5))
        self._recent_loud = deque(maxlen=frames(s.sound_start_s))
        self._pre_roll = deque(maxlen=frames(s.pre_roll_s + s.start_voiced_s * 1.5))
        self._steady = SteadySound(self._background, frames(s.steady_after_s), frames(s.steady_update_s))

    def feed(self, frame: np.ndarray) -> Iterator[Event | AudioWindow]:
        """Hear one frame of (480,) float32."""
        heard = self._background.hear(frame)
        voiced = self.detector.is_speech(frame) and self._is_near(heard)
        threshold = max(heard.floor_dbfs + self.settings.sound_margin_db, self.settings.sound_min_dbfs)
        loud = self._is_loud(heard, threshold)
        self._heard += 1
        self._recent_voiced.append(voiced)
        self._recent_loud.append(loud)
        self._steady.hear(heard, in_window=self._open is not None)
        if self._open is None:
            if self.settings.mode == "open":
                self._wait(frame)
                self._behind.hear(heard.level_dbfs)
                if not self._background.warming_up:
                    yield from self._maybe_open()
        else:
            self._open.frames.append(frame)
            yield from self._go_on(self._open, heard, voiced, loud)
        kind = self._open.kind if self._open else None
        self._background.follow(rises=kind != "speech")
        yield LevelMeasured(
            level_dbfs=heard.level_dbfs,
            noise_floor_dbfs=heard.floor_dbfs,
            threshold_dbfs=threshold,
            voiced=voiced,
            open_kind=kind,
            novelty_db=heard.novelty_db,
        )

    @property
    def held(self) -> bool:
        """Whether a window is open that only a person ends."""
        return self._open is not None and self._open.held

    def hold(self) -> Iterator[Event]:
        """Open a window now, or keep the open one, until `flush`: neither silence nor another sound ends it.

        It begins with the pre-roll, except in push to talk: what was said before the press is nobody's business.
        """
        window = self._open
        if window is None:
            heard = list(self._pre_roll) if self.settings.mode == "open" else []
            window = self._begin("speech", heard, min(self._repeated, len(heard)))
            yield _opened(window)
        if window.paused:
            window.paused = False
            yield WindowResumed(window=window.id)
        window.held, window.kind = True, "speech"

    def so_far(self) -> AudioWindow | None:
        """What was heard of the open window, as if it ended now; the final one will have the same id."""
        return self._record(self._open, "silence") if self._open else None

    def _is_near(self, heard: Heard) -> bool:
        """Whether a voiced frame can be somebody who talks to the assistant."""
        if heard.above_db <= self.settings.speech_margin_db:
            return False
        talked_in = self._open is not None and self._open.kind == "speech"
        return talked_in or heard.level_dbfs > self._behind.level_dbfs - OPENING_DB

    def _is_loud(self, heard: Heard, threshold: float) -> bool:
        s = self.settings
        stands_out = heard.level_dbfs > threshold or heard.novelty_db > s.sound_margin_db
        loud = stands_out and heard.level_dbfs > s.sound_min_dbfs
        return loud and (self._open is not None or self._steady.is_more(heard))

    def _wait(self, frame: np.ndarray) -> None:
        if len(self._pre_roll) == self._pre_roll.maxlen:
            self._repeated = max(0, self._repeated - 1)
        self._pre_roll.append(frame)

    def _speech_begins(self) -> bool:
        return sum(self._recent_voiced) >= frames(self.settings.start_voiced_s)

    def _hand_to_speech(self, window: _Open) -> Iterator[Event | AudioWindow]:
        """Somebody speaks: a sound that has just begun was the beginning of it, any other ends here."""
        pre_roll = self._pre_roll.maxlen or 1
        if len(window.frames) <= 2 * pre_roll:
            window.kind = "speech"
            return
        voiced, loud = sum(self._recent_voiced), sum(self._recent_loud)
        yield from self.flush("speech")
        speech = self._begin("speech", window.frames[-pre_roll:], pre_roll)
        speech.voiced, speech.loud = voiced, loud
        yield _opened(speech)

    def _maybe_open(self) -> Iterator[Event]:
        s = self.settings
        speech = self._speech_begins()
        # The sound gate is quicker; what may yet turn out to be speech is left to the other one.
        maybe_speech = 2 * sum(self._recent_voiced) > len(self._recent_loud)
        loud = len(self._recent_loud) == self._recent_loud.maxlen and all(self._recent_loud)
        sound = s.sounds and (loud or self._steady.update_due) and not maybe_speech
        if speech or sound:
            update = not speech and not loud
            window = self._begin("speech" if speech else "sound", list(self._pre_roll), self._repeated)
            window.voiced, window.loud = sum(self._recent_voiced), sum(self._recent_loud)
            yield _opened(window, update)

    def _begin(self, kind: WindowKind, heard: list[np.ndarray], overlap: int) -> _Open:
        self._count += 1
        talker = Talker(self._behind, self.settings.speech_drop_db, self.settings.speech_over_db)
        self._open = _Open(self._count, kind, (self._heard - len(heard)) * FRAME_S, heard, talker, overlap)
        self._steady.begin()
        self._pre_roll.clear()
        return self._open

    def _go_on(self, window: _Open, heard: Heard, voiced: bool, loud: bool) -> Iterator[Event | AudioWindow]:
        window.voiced += voiced
        window.loud += loud
        if window.kind == "sound" and self._speech_begins():
            yield from self._hand_to_speech(window)
            return
        speech = window.kind == "speech"
        active = window.talker.hear(heard.level_dbfs, voiced) if speech else loud or self._steady.on
        if active and window.quiet >= frames(HESITATION_S):
            window.hesitated = True
        window.quiet = 0 if active else window.quiet + 1
        yield from self._pause_or_resume(window)
        if window.quiet >= self._silence_that_ends(window) and not window.held:
            yield from self.flush("silence")
        elif len(window.frames) >= frames(self.settings.max_window_s):
            yield from self._split(window)
        elif window.kind == "sound" and self._steady.goes_on:
            self._steady.told()
            yield from self.flush("steady")

    def _silence_that_ends(self, window: _Open) -> int:
        """In frames. Who paused before and went on is likely to do it again, and gets more time."""
        least = frames(self.settings.end_silence_s)
        return max(least, frames(self.settings.patience_s)) if window.hesitated and window.talker.clear else least

    def _pause_or_resume(self, window: _Open) -> Iterator[Event]:
        after_s = self.settings.speculate_after_s
        pausing = bool(after_s) and window.kind == "speech" and not window.held and window.quiet >= frames(after_s)
        if pausing and not window.paused:
            yield WindowPaused(window=window.id, silence_s=round(window.quiet * FRAME_S, 3))
        elif window.paused and not pausing:
            yield WindowResumed(window=window.id)
        window.paused = pausing

    def _split(self, window: _Open) -> Iterator[Event | AudioWindow]:
        """End a full window and go on in a new one that begins with its last second."""
        again = window.frames[-frames(self.settings.overlap_s) :] if self.settings.overlap_s else []
        yield from self.flush("max_window")
        following = self._begin(window.kind, list(again), len(again))
        following.talker, following.held = window.talker, window.held
        following.quiet, following.hesitated = window.quiet, window.hesitated
        yield _opened(following)

    def _mostly_voiced(self, window: _Open) -> bool:
        enough = window.voiced >= frames(self.settings.start_voiced_s)
        return enough and window.voiced >= SPEECH_SHARE * max(1, window.loud)

    def _record(self, window: _Open, reason: WindowEnd) -> AudioWindow:
        samples = np.concatenate(window.frames) if window.frames else np.zeros(0, np.float32)
        kind: WindowKind = "speech" if self._mostly_voiced(window) else "sound"
        start_s, level = round(window.start_s, 3), round(level_dbfs(samples), 1)
        overlap_s, silence_s = round(window.overlap * FRAME_S, 3), round(window.quiet * FRAME_S, 3)
        return AudioWindow(window.id, samples, kind, start_s, reason, level, self.source, overlap_s, silence_s)

    def flush(self, reason: WindowEnd) -> Iterator[Event | AudioWindow]:
        """End the open window, if there is one, for the reason given."""
        window, self._open = self._open, None
        if window is None:
            return
        self._recent_voiced.clear()
        self._recent_loud.clear()
        # A word may have begun softly while the window waited for its end: the next one gets that, too.
        if reason == "silence":
            self._pre_roll.extend(window.frames[-window.quiet :])
        self._repeated = len(self._pre_roll)
        closed = self._record(window, reason)
        yield WindowClosed(
            window=window.id,
            kind=closed.kind,
            reason=reason,
            start_s=closed.start_s,
            duration_s=round(closed.duration_s, 3),
            level_dbfs=closed.level_dbfs,
            silence_s=closed.silence_s,
        )
        refusal = self._refusal(window, closed)
        yield WindowDropped(window=window.id, reason=refusal) if refusal else closed

    def _refusal(self, window: _Open, closed: AudioWindow) -> str | None:
        """Why nobody shall answer it. What a person held open is answered unless it is nothing at all."""
        active = window.voiced if closed.kind == "speech" else window.loud
        least = frames(self.settings.min_active_s)
        if window.held:
            return "nothing was heard" if len(window.frames) < least or closed.level_dbfs < NOTHING_DBFS else None
        if active * FRAME_S < self.settings.min_active_s and not self._steady.on:
            return "too short"
        if self.settings.sounds or "speech" in (window.kind, closed.kind):  # in doubt the model itself decides
            return None
        return "no speech, and the profile ignores sounds"


def _opened(window: _Open, update: bool = False) -> WindowOpened:
    return WindowOpened(window=window.id, kind=window.kind, start_s=round(window.start_s, 3), update=update)


def frames(seconds: float) -> int:
    """Frames of 30 ms in so many seconds, at least one."""
    return max(1, round(seconds / FRAME_S))
