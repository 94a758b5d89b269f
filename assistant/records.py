"""The records that flow one way: frames, windows, prompts, responses. Frozen, units in the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np

from assistant.actions import Action

SAMPLE_RATE = 16_000
FRAME_SAMPLES = 480  # 30 ms, the longest frame that webrtcvad takes
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE

WindowKind = Literal["speech", "sound"]
WindowEnd = Literal["silence", "max_window", "steady", "speech", "manual", "device_lost", "end_of_file"]
DeviceState = Literal["active", "reconnecting", "unavailable"]
TurnEnd = Literal["done", "stopped", "cancelled", "superseded", "failed"]
# By `TurnEnd`: said beside an answer that did not come to its end, so that it does not look like a whole one.
BROKEN_OFF: Mapping[str, str] = {
    "cancelled": "(cancelled)",
    "superseded": "(broken off: somebody talked on)",
    "failed": "(failed)",
}


@dataclass(frozen=True)
class AudioWindow:
    """One stretch of sound that somebody should answer.

    Attributes:
        id: counts up from 1 in a session.
        samples: (n,) float32 in [-1, 1) at 16 kHz, with the pre-roll.
        kind: speech if enough of it was voiced, otherwise sound.
        start_s: where the window begins in the stream.
        end: why it ended.
        level_dbfs: root mean square of the whole window.
        source: the device or file that it was heard on.
        overlap_s: how much of its beginning the window before it had already.
        silence_s: for how long nobody had spoken, or nothing had sounded, when it ended.
    """

    id: int
    samples: np.ndarray
    kind: WindowKind
    start_s: float
    end: WindowEnd
    level_dbfs: float
    source: str
    overlap_s: float = 0.0
    silence_s: float = 0.0

    def __post_init__(self) -> None:
        if self.samples.flags.writeable:  # nobody who is handed a window can change it for the others
            fixed = np.frombuffer(np.ascontiguousarray(self.samples, np.float32).tobytes(), np.float32)
            object.__setattr__(self, "samples", fixed)

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class GenerationSettings:
    """How an answer is generated; the fields are explained at `salmonn_core.decode.GenerationOptions`."""

    max_new_tokens: int = 96
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 0.95
    seed: int | None = None
    lora_scale: float = 1.0
    repetition_penalty: float = 1.0
    pattern: str | None = None
    spot: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reading_weight: float = 0.0
    words_first: bool = False
    names_first: bool = False
    heard_first: bool = False


@dataclass(frozen=True)
class Prompt:
    """What the model is asked about a window.

    Attributes:
        instruction: text that follows the audio.
        settings: how the answer is generated.
        history: earlier (instruction, answer) turns that stand before this one.
        before: text that stands before the audio.
        windows: ids of past windows whose audio is put before this one's, as far as 30 s allow.
    """

    instruction: str
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    history: tuple[tuple[str, str], ...] = ()
    before: str = ""
    windows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Timings:
    """Milliseconds: `encode`, `first_token` and `total` count from the moment the window was handed over.

    Attributes:
        end_delay: from the last active frame to the first token that was shown; 0 if the source is not live.
        hooks: spent in plugins, all of them together.
    """

    encode: float = 0.0
    first_token: float = 0.0
    total: float = 0.0
    end_delay: float = 0.0
    hooks: float = 0.0


@dataclass(frozen=True)
class Response:
    """One answer.

    Attributes:
        text: the whole answer.
        skill: who shaped the prompt and consumed it.
        prompt: what was asked.
        window_id: the window that it answers.
        timings_ms: encode, first token, total.
        end: how the turn ended.
        slots: a typed record, if the skill fills one.
        tokens: how many tokens were generated.
        actions: what the assistant shall do with it (`assistant.actions`), in this order.
        words: what was written down of the speech first, if the skill has that done (`words_first`).
    """

    text: str
    skill: str
    prompt: Prompt
    window_id: int
    timings_ms: Timings
    end: TurnEnd = "done"
    slots: Mapping[str, Any] | None = None
    tokens: int = 0
    actions: tuple[Action, ...] = ()
    words: str = ""


@dataclass(frozen=True)
class Turn:
    """What a conversation remembers of an answered window."""

    window_id: int
    kind: WindowKind
    skill: str
    instruction: str
    text: str
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class SessionInfo:
    """What a plugin is told when a session starts."""

    conversation: str
    profile: str
    source: str
    language: str


@dataclass(frozen=True)
class Skill:
    """Something the assistant can do with a window.

    Attributes:
        name: what profiles and the command line call it, e.g. `spoken-qa`.
        description: one line for lists.
        instruction: the prompt, unless the `shape_prompt` hook makes another.
        kinds: the windows that it accepts.
        settings: generation defaults (`GenerationSettings` by field); a profile's `generation` wins over them.
        prompts: the instruction in other languages, by code ("de"); the profile's `language` chooses.
        verbatim: its answers are what was said, word for word: those that a full window and the next one both have
            are said once.
    """

    name: str
    description: str
    instruction: str
    kinds: frozenset[WindowKind] = frozenset({"speech", "sound"})
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    verbatim: bool = False

    def __post_init__(self) -> None:
        for name in ("settings", "prompts"):  # a plugin that is handed a skill cannot change it
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def instruction_in(self, language: str) -> str:
        """The instruction in that language, or as it is."""
        return self.prompts.get(language, self.instruction)


OWN_QUESTION = "prompt"


def question_of_ones_own(instruction: str) -> Skill:
    """What answers a person's own words: no plugin's skill, so that none's settings or shape apply."""
    return Skill(OWN_QUESTION, "a question of the user's own", instruction)


@dataclass(frozen=True)
class Command:
    """A command of a plugin's own: `assistant plugins run PLUGIN NAME [WORDS...]`.

    Attributes:
        name: what is typed.
        help: one line.
        run: given the words that follow; what it returns is printed.
    """

    name: str
    help: str
    run: Callable[[list[str]], str | None]


@dataclass(frozen=True)
class Panel:
    """Something that a plugin shows beside the conversation, as data: headless front ends show it too.

    Attributes:
        title: above it.
        rows: a table's rows, the first one its head; a badge is one row of one cell; a text is rows of one cell.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]


class HookRecorder(Protocol):
    """Told of every call of a plugin's hook after it returned, with what it was given and what it gave back."""

    def __call__(self, plugin: str, hook: str, inputs: Mapping[str, Any], output: Any) -> None: ...
