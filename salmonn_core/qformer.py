"""The window-level Q-Former: transformers' own weights and layers, with keys and values computed once a frame.

Without context it is `Blip2QFormerModel` on each window, as in the reference (paper, section 3.1): its queries take the
frames as a bag, whatever their order. With context, ours, they also hear the frames around the window, at a learned
preference of each head and query for each place: a word is longer than a window of 0.24 s, and one that is heard in
halves, or in no order, is guessed (docs/training-log.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from salmonn_core.config import QFormerConfig

NORM_EPS = 1e-12
SPREAD = 5 / 12  # of a window: how wide around its place each head of a new model listens
LEAST = -5.0  # the preference for what is far from it


def build_qformer(config: QFormerConfig, width: int) -> Blip2QFormerModel:
    """Args: width: of the frames that it hears."""
    return Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.attention_heads,
            intermediate_size=config.intermediate_size,
            encoder_hidden_size=width,
            cross_attention_frequency=1,
            layer_norm_eps=NORM_EPS,
            hidden_act="gelu",
        )
    )


class Places(nn.Module):
    """What each head and query prefers of the places in and around a window: added to the attention scores.

    In a new model each query listens around its own share of the window, and its heads in a row from one window before
    that to one after it: like the taps of a convolution.
    """

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.config = config
        window, queries = config.window_frames, config.queries
        middle = config.context_frames + window * (torch.arange(queries) + 0.5) / queries - 0.5
        tap = torch.linspace(-window, window, config.attention_heads)
        away = torch.arange(config.heard_frames) - (middle + tap[:, None])[..., None]
        preference = (-0.5 * (away / (SPREAD * window)).square()).clamp_min(LEAST)
        self.preference = nn.Parameter(preference.expand(config.layers, -1, -1, -1).clone())

    def preferred(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """By layer (windows, heads, queries, places): minus infinity outside of each window's clip."""
        inside = _cut([clip.new_zeros(len(clip), 1) for clip in clips], self.config, -math.inf)
        return [layer + inside[:, None] for layer in self.preference]


def _cut(clips: Sequence[Tensor], config: QFormerConfig, outside: float) -> Tensor:
    """Frames of some clips, (frames, width) each, in windows with their context: (windows, width, places)."""
    context = (0, 0, config.context_frames, config.context_frames)
    padded = [F.pad(clip, context, value=outside) for clip in clips]
    return torch.cat([clip.unfold(0, config.heard_frames, config.stride_frames) for clip in padded])


def listen(
    model: Blip2QFormerModel, queries: Tensor, clips: Sequence[Tensor], config: QFormerConfig, places: Places | None
) -> Tensor:
    """Every window of some clips through the Q-Former's query branch.

    Args:
        model: its text branch is not used.
        queries: (1, queries, hidden_size).
        clips: (frames, width) each.
        places: of a model with context.

    Returns:
        (windows, queries, hidden_size), the clips' windows one after the other.
    """
    preferred = places.preferred(clips) if places else [None] * config.layers
    # Windows start equal; they differ from the first cross-attention on.
    x = model.dropout(model.layernorm(queries))
    for index, layer in enumerate(cast(Any, model.encoder.layer)):
        x = layer.attention(x)
        cross = layer.crossattention
        x = cross.output(_attend(cross.attention, x, clips, config, preferred[index]), x)
        x = layer.feed_forward_chunk_query(x)
    return cast(Tensor, x)


def _attend(
    attention: Any, x: Tensor, clips: Sequence[Tensor], config: QFormerConfig, preferred: Tensor | None
) -> Tensor:
    """Cross-attention of (windows or 1, queries, hidden) to the frames of each window; (windows, queries, hidden)."""
    heads, head_dim = attention.num_attention_heads, attention.attention_head_size

    def of_windows(linear: nn.Linear) -> Tensor:
        """(windows, heads, places, head_dim)"""
        windows = _cut([linear(clip) for clip in clips], config, 0.0)
        return windows.unflatten(1, (heads, head_dim)).transpose(2, 3)

    keys, values = of_windows(attention.key), of_windows(attention.value)
    query = attention.query(x).view(len(x), -1, heads, head_dim).transpose(1, 2).expand(len(keys), -1, -1, -1)
    dropout = attention.attention_dropout if attention.training else 0.0
    if preferred is not None:
        preferred = preferred.to(query.dtype)
    heard = F.scaled_dot_product_attention(query, keys, values, preferred, dropout, scale=attention.scaling)
    return heard.transpose(1, 2).flatten(2)
