"""From two streams of encoder states to audio tokens in the LLM's embedding space.

LayerNorm on each stream, the shorter padded with zeros, concatenated on features, cut into windows;
a Q-Former turns each window into a few tokens and a linear layer projects them (paper, section 3.1).
The Q-Former is transformers' own: its query branch has the reference's semantics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from salmonn_core.config import QFormerConfig

ENCODER_NORM_EPS = 1e-5
QFORMER_NORM_EPS = 1e-12
# Of some three hundred labels the right one is seldom likelier than not, so votes count from below that on; but the
# many that are a little possible, as in noisy speech, must not add up: read by themselves, the tokens would be blurred.
DOUBT, UNHEARD = 2.0, 0.35
MOST_NAMES, WORTH_NAMING = 4, -3.5
AROUND = 8  # windows before and after one that help to name what sounds in it; a single one is right less often


class Namer(nn.Module):
    """Names what sounds around a window and adds the label's words to its tokens; nothing where nothing has a label.

    Not in the paper. A Q-Former that learned to read words passes little else on, and sounds to teach it are few; a
    linear layer on the mean of the same features names twice as many sounds that it never heard (docs/training-log.md).

    Args:
        width: of the joined features.
        labels: how many sounds it knows.
        llm_width: of the tokens.
    """

    def __init__(self, width: int, labels: int, llm_width: int) -> None:
        super().__init__()
        self.label = nn.Linear(width, labels)
        self.words = nn.Linear(labels, llm_width, bias=False)

    def logits(self, windows: Tensor) -> Tensor:
        """(windows, window_frames, width) of one clip to (windows, labels): positive where one is likelier than not."""
        means = windows.mean(dim=1).T[None]
        around = nn.functional.avg_pool1d(means, 2 * AROUND + 1, 1, AROUND, count_include_pad=False)[0].T
        return cast(Tensor, self.label(around))

    def forward(self, logits: Tensor) -> Tensor:
        """The `logits` of a clip's windows to what their tokens get more, (windows, 1, llm_width)."""
        votes = nn.functional.relu(nn.functional.softplus(logits + DOUBT) - UNHEARD)
        return cast(Tensor, self.words(votes))[:, None]


def named(logits: Tensor, labels: Sequence[str]) -> tuple[str, ...]:
    """The few labels that are worth a word, the likeliest first, from a clip's logits (labels,)."""
    likeliest = logits.float().topk(min(MOST_NAMES, len(labels)))
    pairs = zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True)
    return tuple(labels[index] for logit, index in pairs if logit > WORTH_NAMING)


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
        self.namer = Namer(speech_width + audio_width, labels, llm_width) if labels else None

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
        return self.forward_batch([speech], [audio])[0]

    def forward_batch(self, speech: list[Tensor], audio: list[Tensor]) -> list[Tensor]:
        """Audio tokens of several clips of any lengths, without padding: windows do not see each other."""
        return [tokens for tokens, _ in self.forward_named(speech, audio)]

    def forward_named(self, speech: list[Tensor], audio: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """As `forward_batch`, with the namer's highest logits over each clip's windows, (labels,); (0,) without one."""
        cut = [self.windows(self.join(s, a)) for s, a in zip(speech, audio, strict=True)]
        tokens = self.tokens(torch.cat(cut)).split([len(windows) for windows in cut])
        return [self._name(part, windows) for part, windows in zip(tokens, cut, strict=True)]

    def _name(self, tokens: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
        if self.namer is None:
            return tokens.flatten(0, 1), tokens.new_zeros(0)
        logits = self.namer.logits(windows)
        return (tokens + self.namer(logits)).flatten(0, 1), logits.amax(dim=0)


def pad_tokens(tokens: list[Tensor]) -> Tensor:
    """Clips of different lengths as one right-padded batch: (batch, longest, width)."""
    return pad_sequence(tokens, batch_first=True)
