"""From two streams of encoder states to audio tokens in the LLM's embedding space.

LayerNorm on each stream, the shorter padded with zeros, concatenated on features, cut into windows;
a Q-Former turns each window into a few tokens and a linear layer projects them (paper, section 3.1).
The Q-Former is transformers' own: its query branch has the reference's semantics.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from salmonn_core.config import QFormerConfig

ENCODER_NORM_EPS = 1e-5
QFORMER_NORM_EPS = 1e-12


class Bridge(nn.Module):
    """LayerNorms, window-level Q-Former and projection: everything between the encoders and the LLM."""

    def __init__(self, config: QFormerConfig, speech_width: int, audio_width: int, llm_width: int) -> None:
        super().__init__()
        self.config = config
        self.ln_speech = nn.LayerNorm(speech_width, eps=ENCODER_NORM_EPS)
        self.ln_audio = nn.LayerNorm(audio_width, eps=ENCODER_NORM_EPS)
        self.query_tokens = nn.Parameter(torch.randn(1, config.queries, config.hidden_size) * 0.02)
        self.qformer = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=config.hidden_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.attention_heads,
                intermediate_size=config.intermediate_size,
                encoder_hidden_size=speech_width + audio_width,
                cross_attention_frequency=1,
                layer_norm_eps=QFORMER_NORM_EPS,
                hidden_act="gelu",
            )
        )
        self.projection = nn.Linear(config.hidden_size, llm_width)

    def join(self, speech: Tensor, audio: Tensor) -> Tensor:
        """Normalise, pad the shorter stream with exact zeros, concatenate on features.

        Args:
            speech: (frames, speech_width) Whisper states.
            audio: (tokens, audio_width) BEATs states, joined index by index.

        Returns:
            (max(frames, tokens), speech_width + audio_width)
        """
        streams = [self.ln_speech(speech), self.ln_audio(audio)]
        # Padding comes after the norm: a padded zero that is normalised would become the norm's bias.
        length = max(len(stream) for stream in streams)
        padded = [nn.functional.pad(stream, (0, 0, 0, length - len(stream))) for stream in streams]
        return torch.cat(padded, dim=-1)

    def windows(self, joined: Tensor) -> Tensor:
        """(frames, width) to (windows, window_frames, width); a last partial window is dropped."""
        frames, stride = self.config.window_frames, self.config.stride_frames
        return joined.unfold(0, frames, stride).transpose(1, 2)

    def tokens(self, windows: Tensor) -> Tensor:
        """(windows, window_frames, width) to audio tokens (windows, queries, llm_width)."""
        queries = self.query_tokens.expand(len(windows), -1, -1)
        heard = self.qformer(query_embeds=queries, encoder_hidden_states=windows).last_hidden_state
        return cast(Tensor, self.projection(heard))

    def forward(self, speech: Tensor, audio: Tensor) -> Tensor:
        """Audio tokens of one clip, window-major and query-minor: (windows x queries, llm_width)."""
        return self.tokens(self.windows(self.join(speech, audio))).flatten(0, 1)

    def forward_batch(self, speech: list[Tensor], audio: list[Tensor]) -> list[Tensor]:
        """Audio tokens of several clips of any lengths, without padding: windows do not see each other."""
        cut = [self.windows(self.join(s, a)) for s, a in zip(speech, audio, strict=True)]
        tokens = self.tokens(torch.cat(cut))
        return [part.flatten(0, 1) for part in tokens.split([len(windows) for windows in cut])]


def pad_tokens(tokens: list[Tensor]) -> Tensor:
    """Clips of different lengths as one right-padded batch: (batch, longest, width)."""
    return pad_sequence(tokens, batch_first=True)
