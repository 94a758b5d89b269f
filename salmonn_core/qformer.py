"""The window-level Q-Former: transformers' own weights and layers, with keys and values computed once a frame.

Without context it is `Blip2QFormerModel` on each window, as in the reference (paper, section 3.1): its queries take the
frames as a bag, whatever their order. With context, ours (`salmonn_core.context`), they also hear the frames around the
window, at a learned preference of each head and query for each place: a word is longer than a window of 0.24 s, and one
that is heard in halves, or in no order, is guessed (docs/training-log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from salmonn_core.config import QFormerConfig
from salmonn_core.context import Blocks, Places

NORM_EPS = 1e-12


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
    blocks = Blocks(clips, config) if places else None
    # Windows start equal; they differ from the first cross-attention on.
    x = model.dropout(model.layernorm(queries))
    for index, layer in enumerate(cast(Any, model.encoder.layer)):
        x = layer.attention(x)
        cross = layer.crossattention
        if blocks is not None and places is not None:
            heard = blocks.attend(cross.attention, x, places.preference[index])
        else:
            heard = _attend(cross.attention, x, clips, config)
        x = layer.feed_forward_chunk_query(cross.output(heard, x))
    return cast(Tensor, x)


def _attend(attention: Any, x: Tensor, clips: Sequence[Tensor], config: QFormerConfig) -> Tensor:
    """Cross-attention of (windows or 1, queries, hidden) to the frames of each window; (windows, queries, hidden)."""
    heads, head_dim = attention.num_attention_heads, attention.attention_head_size

    def of_windows(linear: nn.Linear) -> Tensor:
        """(windows, heads, places, head_dim)"""
        cut = [linear(clip).unfold(0, config.window_frames, config.stride_frames) for clip in clips]
        return torch.cat(cut).unflatten(1, (heads, head_dim)).transpose(2, 3)

    keys, values = of_windows(attention.key), of_windows(attention.value)
    query = attention.query(x).view(len(x), -1, heads, head_dim).transpose(1, 2).expand(len(keys), -1, -1, -1)
    dropout = attention.attention_dropout if attention.training else 0.0
    heard = F.scaled_dot_product_attention(query, keys, values, None, dropout, scale=attention.scaling)
    return heard.transpose(1, 2).flatten(2)
