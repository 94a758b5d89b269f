"""The one seam to the model. Importing it costs no torch; loading a core does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from assistant.profile import CoreSettings
from assistant.records import SAMPLE_RATE, GenerationSettings, Prompt, WindowKind

if TYPE_CHECKING:
    from salmonn_core import GenerationOptions, Salmonn

KIND_PROMPT = Prompt(
    "Is this speech, a sound or music? Answer with one word.",
    GenerationSettings(max_new_tokens=4, pattern="(speech|sound|music)"),
)
NEVER: Callable[[], bool] = lambda: False  # noqa: E731


class Core(Protocol):
    """What the conversation needs of a model; tests use one that yields scripted tokens."""

    name: str

    def encode(self, samples: np.ndarray) -> Any:
        """Audio tokens of a window, (n,) float32 at 16 kHz; opaque to the assistant."""
        ...

    def kind(self, audio: Any) -> WindowKind:
        """Whether a window is speech, by the model's own hearing."""
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """Several windows' audio tokens as one, in this order."""
        ...

    def stream(self, audio: Any, prompt: Prompt, cancelled: Callable[[], bool] = NEVER) -> Iterator[str]:
        """The answer, piece by piece."""
        ...

    def transcript(self, audio: Any, prompt: Prompt) -> str:
        """The words that were written down before this prompt was answered; empty if it did not ask for them."""
        ...


class SalmonnCore:
    """A SALMONN of `salmonn_core`."""

    def __init__(self, settings: CoreSettings) -> None:
        import torch

        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.name = settings.model
        self._model = open_model(settings)
        self._model.expect(settings.vocabulary)
        # The first question packs the LoRA and reads the prompt's beginning: before anybody waits for an answer.
        heard = self.encode(np.zeros(SAMPLE_RATE, np.float32))
        self.kind(heard)
        self._model.transcript(heard)  # and the first transcript spells out what the audio tokens can be read as

    def encode(self, samples: np.ndarray) -> Any:
        return self._model.encode(np.array(samples))  # a copy that torch may write to

    def join(self, parts: Sequence[Any]) -> Any:
        return self._model.join(parts)

    def kind(self, audio: Any) -> WindowKind:
        """Ask the model: a speech detector such as webrtcvad takes nearly every dog and drum for speech."""
        return kind_of("".join(self.stream(audio, KIND_PROMPT)))

    def stream(self, audio: Any, prompt: Prompt, cancelled: Callable[[], bool] = NEVER) -> Iterator[str]:
        options = _options(prompt)
        return self._model.stream(audio, prompt.instruction, options, prompt.history, cancelled, prompt.before)

    def stream_many(self, questions: Sequence[tuple[Any, Prompt]]) -> list[list[str]]:
        """Of each (audio, prompt) the pieces that `stream` would yield, in a fraction of the time."""
        from salmonn_core import Asked

        return self._model.stream_many(
            [Asked(audio, p.instruction, _options(p), p.history, p.before) for audio, p in questions]
        )

    def transcript(self, audio: Any, prompt: Prompt) -> str:
        return str(audio.words.get(prompt.settings.lora_scale, "")) if prompt.settings.words_first else ""


def _options(prompt: Prompt) -> GenerationOptions:
    from salmonn_core import GenerationOptions

    return GenerationOptions(**asdict(prompt.settings))


def kind_of(answer: str) -> WindowKind:
    """What the model's answer to `KIND_PROMPT` makes of a window."""
    return "speech" if answer == "speech" else "sound"


def open_model(settings: CoreSettings) -> Salmonn:
    """The model that a profile names, or the releases that it is made of.

    Raises:
        UserError: as `load_core`.
    """
    from salmonn_core import Salmonn
    from salmonn_core.loading import find_model
    from salmonn_core.weights.official import resolve

    releases = settings.releases
    if releases is None or find_model(settings.model):
        return Salmonn.from_pretrained(settings.model, settings.device, settings.precision)
    files = resolve(releases.checkpoint, releases.beats, releases.whisper, releases.llm, lambda _: None)
    return Salmonn.from_official(files, settings.device, settings.precision, releases.qformer_heads)


def load_core(settings: CoreSettings) -> Core:
    """Load the model that a profile names.

    Raises:
        UserError: weights that are missing or do not fit, with what to run.
    """
    return SalmonnCore(settings)
