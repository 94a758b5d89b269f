"""SALMONN: two encoders, a bridge and an LLM with LoRA, as one object that hears and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from salmonn_core.audio import fit_length, read_audio
from salmonn_core.beats import Beats
from salmonn_core.bridge import Bridge
from salmonn_core.config import SAMPLE_RATE, SalmonnConfig
from salmonn_core.decode import GenerationOptions, generate, pieces
from salmonn_core.prompts import PromptHalves, build_prompt, past_turn
from salmonn_core.whisper import encode_whisper, log_mel


@dataclass(frozen=True)
class AudioTokens:
    """What the model heard in one window: encode once, ask as often as you like."""

    tokens: Tensor  # (audio tokens, LLM width)
    seconds: float


class Salmonn:
    """A loaded model. `Salmonn.from_pretrained("salmonn-tiny")` makes one; see `salmonn_core.loading`."""

    def __init__(
        self, config: SalmonnConfig, whisper: Any, beats: Beats, bridge: Bridge, llm: Any, tokenizer: Any
    ) -> None:
        self.config = config
        self.whisper, self.beats, self.bridge = whisper, beats, bridge
        self.llm, self.tokenizer = llm, tokenizer

    @classmethod
    def from_pretrained(cls, name: str | Path = "salmonn-tiny", device: str = "cpu") -> Salmonn:
        """Load a bundled model by name or a folder that `export` wrote.

        Raises:
            UserError: unknown name, or weights that are missing, damaged or do not fit.
        """
        from salmonn_core.loading import load

        return load(name, device)

    @property
    def device(self) -> torch.device:
        return self.bridge.projection.weight.device

    @torch.inference_mode()
    def encode(self, wave: np.ndarray) -> AudioTokens:
        """Audio tokens of a clip.

        Args:
            wave: (samples,) float32 in [-1, 1) at 16 kHz; shorter than 1 s is padded, longer than 30 s cut.
        """
        padded = self.config.pad_to_30s
        seconds = len(wave) / SAMPLE_RATE
        wave = fit_length(wave, 1 if padded else self.config.qformer.window_frames)
        mel = log_mel(wave, self.whisper.config.num_mel_bins, padded).to(self.device)
        speech = encode_whisper(self.whisper, mel)[0]
        audio = self.beats(torch.from_numpy(wave).to(self.device)[None])[0]
        width = self.bridge.projection.weight.dtype
        return AudioTokens(self.bridge(speech.to(width), audio.to(width)), seconds)

    def embed(self, halves: PromptHalves, audio: AudioTokens | None) -> Tensor:
        """The prompt as input embeddings (positions, LLM width): BOS, text, audio tokens, text."""
        table = self.llm.get_input_embeddings()

        def text(part: str) -> Tensor:
            ids = self.tokenizer(part, add_special_tokens=False).input_ids
            embedded: Tensor = table(torch.tensor(ids, dtype=torch.long, device=self.device))
            return embedded

        parts = [text(halves.before)]
        if audio is not None:
            parts.append(audio.tokens.to(table.weight.dtype))
        parts.append(text(halves.after))
        if self.config.prompt.bos:
            parts.insert(0, table(torch.tensor([self.tokenizer.bos_token_id], device=self.device)))
        return torch.cat(parts)

    def set_lora_scale(self, scale: float) -> None:
        """Discount the LoRA for the next generation: the trained strength times `scale`."""
        trained = self.config.lora.alpha / self.config.lora.rank
        for module in self.llm.modules():
            if hasattr(module, "scaling") and hasattr(module, "lora_A"):
                module.scaling["default"] = trained * scale

    def stream(
        self,
        audio: AudioTokens | None,
        instruction: str,
        options: GenerationOptions | None = None,
        history: Sequence[tuple[str, str]] = (),
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[str]:
        """Yield the answer as text pieces while it is generated.

        Args:
            audio: what was heard; None asks in text alone.
            instruction: what to do with it.
            options: greedy and at full LoRA scale unless said otherwise.
            history: earlier (instruction, answer) turns, as text.
            cancelled: asked before each token.
        """
        options = options or GenerationOptions()
        end = self.tokenizer.eos_token + "\n"
        turns = "".join(past_turn(self.config.prompt, asked, said, end) for asked, said in history)
        halves = build_prompt(self.config.prompt, instruction, audio is not None, turns)
        self.set_lora_scale(options.lora_scale)
        with torch.inference_mode():
            prompt = self.embed(halves, audio)
        yield from pieces(self.tokenizer, generate(self.llm, self.tokenizer, prompt, options, cancelled))

    def ask(self, audio: str | Path | np.ndarray, instruction: str, options: GenerationOptions | None = None) -> str:
        """Answer one question about a sound file or a waveform."""
        wave = audio if isinstance(audio, np.ndarray) else read_audio(audio)
        return "".join(self.stream(self.encode(wave), instruction, options)).strip()
