"""From two streams of encoder states to audio tokens in the LLM's embedding space.

LayerNorm on each stream, the shorter padded with zeros, concatenated on features, cut into windows;
a Q-Former (`salmonn_core.qformer`) turns each window into a few tokens and a linear layer projects them (paper,
section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from salmonn_core.config import QFormerConfig
from salmonn_core.context import Places
from salmonn_core.namer import Namer
from salmonn_core.neighbours import Neighbours
from salmonn_core.qformer import build_qformer, listen

ENCODER_NORM_EPS = 1e-5


class Heard(NamedTuple):
    """What the bridge makes of a clip.

    Attributes:
        tokens: (windows x queries, llm_width) window-major and query-minor, for the LLM.
        spoken: the same before the namer added to them: nothing but what the Q-Former heard, for the reader.
        votes: (windows, labels) the namer's logits; (windows, 0) without one.
    """

    tokens: Tensor
    spoken: Tensor
    votes: Tensor


class Bridge(nn.Module):
    """LayerNorms, window-level Q-Former and projection: everything between the encoders and the LLM.

    Args:
        labels: how many sounds its namer knows; without any it has none, as in the paper.
    """

    def __init__(
        self, config: QFormerConfig, speech_width: int, audio_width: int, llm_width: int, labels: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.ln_speech = nn.LayerNorm(speech_width, eps=ENCODER_NORM_EPS)
        self.ln_audio = nn.LayerNorm(audio_width, eps=ENCODER_NORM_EPS)
        self.query_tokens = nn.Parameter(torch.randn(1, config.queries, config.hidden_size) * 0.02)
        self.qformer = build_qformer(config, speech_width + audio_width)
        self.places = Places(config) if config.context_s else None
        self.neighbours = Neighbours(config.hidden_size, config.neighbours) if config.neighbours else None
        self.projection = nn.Linear(config.hidden_size, llm_width)
        self.namer = Namer(speech_width + audio_width, labels, llm_width) if labels else None

    def join(self, speech: Tensor, audio: Tensor) -> Tensor:
        """As `join_all`, of one clip."""
        return self.join_all([speech], [audio])[0]

    def join_all(self, speech: Sequence[Tensor], audio: Sequence[Tensor]) -> list[Tensor]:
        """Normalise, pad the shorter stream with exact zeros, concatenate on features.

        Args:
            speech: (frames, speech_width) Whisper states of each clip.
            audio: (tokens, audio_width) BEATs states, joined index by index.

        Returns:
            (max(frames, tokens), speech_width + audio_width) each.
        """
        streams = zip(_normalised(self.ln_speech, speech), _normalised(self.ln_audio, audio), strict=True)
        return [torch.cat(_as_long(pair), dim=-1) for pair in streams]

    def windows(self, joined: Tensor) -> Tensor:
        """(frames, width) to (windows, window_frames, width); a last partial window is dropped."""
        frames, stride = self.config.window_frames, self.config.stride_frames
        return joined.unfold(0, frames, stride).transpose(1, 2)

    def tokens(self, clips: Sequence[Tensor]) -> Tensor:
        """Joined frames of some clips, (frames, width) each, to (windows of all, queries, llm_width)."""
        heard = listen(self.qformer, self.query_tokens, clips, self.config, self.places)
        if self.neighbours is not None:
            lengths = [self.config.audio_tokens(len(clip)) for clip in clips]
            heard = self.neighbours(heard.flatten(0, 1), lengths).view_as(heard)
        return cast(Tensor, self.projection(heard))

    def forward(self, speech: Tensor, audio: Tensor) -> Tensor:
        """Audio tokens of one clip, window-major and query-minor: (windows x queries, llm_width)."""
        return self.forward_batch([speech], [audio])[0]

    def forward_batch(self, speech: list[Tensor], audio: list[Tensor]) -> list[Tensor]:
        """Audio tokens of several clips of any lengths, without padding: windows do not see each other."""
        return [heard.tokens for heard in self.hear(speech, audio)]

    def hear(
        self,
        speech: list[Tensor],
        audio: list[Tensor],
        votes: Sequence[Tensor | None] | None = None,
        naming: bool = True,
    ) -> list[Heard]:
        """As `forward_batch`, with what the reader reads and what the namer says of each clip.

        Args:
            votes: of some clips, (windows, labels) logits that stand for the namer's own.
            naming: whether the namer is asked; without it the tokens are those that the reader reads.
        """
        return self.hear_joined(self.join_all(speech, audio), votes, naming)

    def hear_joined(
        self, clips: list[Tensor], votes: Sequence[Tensor | None] | None = None, naming: bool = True
    ) -> list[Heard]:
        """As `hear`, of joined frames, (frames, width) each."""
        cut = [self.windows(clip) for clip in clips]
        tokens = self.tokens(clips).split([len(windows) for windows in cut])
        if self.namer is None or not naming:
            return [_unnamed(clip) for clip in tokens]
        given = votes or [None] * len(clips)
        return [_named(self.namer, *of_clip) for of_clip in zip(tokens, cut, given, strict=True)]


def _normalised(norm: nn.LayerNorm, clips: Sequence[Tensor]) -> Sequence[Tensor]:
    return cast(Tensor, norm(torch.cat(list(clips)))).split([len(clip) for clip in clips])


def _as_long(streams: Sequence[Tensor]) -> list[Tensor]:
    """Padding comes after the norm: a padded zero that is normalised would become the norm's bias."""
    length = max(map(len, streams))
    return [nn.functional.pad(stream, (0, 0, 0, length - len(stream))) for stream in streams]


def _unnamed(tokens: Tensor) -> Heard:
    spoken = tokens.flatten(0, 1)
    return Heard(spoken, spoken, tokens.new_zeros(len(tokens), 0))


def _named(namer: Namer, tokens: Tensor, windows: Tensor, votes: Tensor | None) -> Heard:
    votes = namer.logits(windows) if votes is None else votes
    return Heard((tokens + namer(votes)).flatten(0, 1), tokens.flatten(0, 1), votes)


def pad_tokens(tokens: list[Tensor]) -> Tensor:
    """Clips of different lengths as one right-padded batch: (batch, longest, width)."""
    return pad_sequence(tokens, batch_first=True)
