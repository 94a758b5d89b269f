"""Windows of the Q-Former that also hear the frames around them, at a learned preference for each place.

Ours, not the paper's. Each frame has one key and one value however many windows hear it. Frames stand in blocks as long
as a window; a block is compared once with the queries of all the windows that hear it, so that nothing as large as
every window's own copy of its frames is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.config import QFormerConfig
from salmonn_core.errors import UserError

SPREAD = 5 / 12  # of a window: how wide around its place each head of a new model listens
LEAST = -5.0  # the preference for what is far from it
SILENT = -1e4  # of places outside of the clip; no infinity, which rows that hear nothing would turn into NaN


class Places(nn.Module):
    """What each head and query prefers of the places in and around a window: added to the attention scores.

    In a new model each query listens around its own share of the window, and its heads in a row from one window before
    that to one after it: like the taps of a convolution.
    """

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        window, queries = config.window_frames, config.queries
        if config.stride_frames != window or config.context_frames % window:
            raise UserError(
                "a Q-Former with context needs windows that neither overlap nor leave gaps, and whole windows"
            )
        # On the host even where a model is laid out without memory: after a training in the same process torch 2.13
        # makes some of these there all the same, and they would not add up.
        host = torch.device("cpu")
        middle = config.context_frames + window * (torch.arange(queries, device=host) + 0.5) / queries - 0.5
        tap = torch.linspace(-window, window, config.attention_heads, device=host)
        away = torch.arange(config.heard_frames, device=host) - (middle + tap[:, None])[..., None]
        preference = (-0.5 * (away / (SPREAD * window)).square()).clamp_min(LEAST)
        self.preference = nn.Parameter(preference.expand(config.layers, -1, -1, -1).clone())


class Blocks:
    """Some clips as one row of blocks, as many silent ones around each clip as a window hears.

    Attributes:
        frames: (blocks x window frames, width).
        outside: (blocks, 1, blocks heard, 1, window frames) what is added to the score of each place.
        windows: which blocks are windows.
    """

    def __init__(self, clips: Sequence[Tensor], config: QFormerConfig) -> None:
        window = config.window_frames
        self.window, self.reach = window, config.context_frames // window
        gap = clips[0].new_zeros(self.reach * window, clips[0].shape[1])
        laid, inside, windows, at = [gap], [gap.new_full((len(gap),), SILENT)], [], self.reach
        for clip in clips:
            rest = -len(clip) % window
            laid += [F.pad(clip, (0, 0, 0, rest)), gap]
            inside += [F.pad(clip.new_zeros(len(clip)), (0, rest + len(gap)), value=SILENT)]
            windows.append(torch.arange(at, at + len(clip) // window, device=clip.device))
            at += math.ceil(len(clip) / window) + self.reach
        self.frames, self.windows = torch.cat(laid), torch.cat(windows)
        silent = torch.cat(inside).view(-1, window)
        self.outside = torch.stack(self._shifted(silent), dim=1)[:, None, :, None]

    def attend(self, attention: Any, x: Tensor, preference: Tensor) -> Tensor:
        """Cross-attention of all windows to what they hear.

        Args:
            x: (windows or 1, queries, hidden).
            preference: (heads, queries, places).

        Returns:
            (windows, queries, hidden).
        """
        heads, head_dim = attention.num_attention_heads, attention.attention_head_size
        keys, values = (
            of(self.frames).view(-1, self.window, heads, head_dim).transpose(1, 2)
            for of in (attention.key, attention.value)
        )
        asked = (attention.query(x) * attention.scaling).view(len(x), -1, heads, head_dim).transpose(1, 2)
        queries = self._spread(asked.expand(len(self.windows), -1, -1, -1))
        # Of each block with the windows that hear it, the one furthest before it first: (blocks, heads, hearers, ...).
        hearers = torch.stack(self._shifted(queries), dim=2)
        scores = (hearers.flatten(2, 3) @ keys.transpose(-1, -2)).unflatten(2, hearers.shape[2:4])
        scores = self._turned(scores) + preference.unflatten(-1, (-1, self.window)).transpose(1, 2) + self.outside
        shares = scores.transpose(2, 3).flatten(3).softmax(dim=-1)
        if attention.training:
            shares = F.dropout(shares, attention.attention_dropout)
        by_block = self._turned(shares.unflatten(-1, (-1, self.window)).transpose(2, 3)).to(values.dtype)
        heard = (by_block.flatten(2, 3) @ values).unflatten(2, by_block.shape[2:4])
        return self._turned(heard).sum(dim=2)[self.windows].transpose(1, 2).flatten(2)

    def _spread(self, of_windows: Tensor) -> Tensor:
        """Rows of windows among empty ones for the other blocks."""
        return of_windows.new_zeros(len(self.outside), *of_windows.shape[1:]).index_copy(0, self.windows, of_windows)

    def _shifted(self, rows: Tensor) -> list[Tensor]:
        """What stands so many rows before each row, from the reach to minus the reach."""
        edge = rows.new_zeros(self.reach, *rows.shape[1:])
        padded = torch.cat((edge, rows, edge))
        return [padded[i : i + len(rows)] for i in range(2 * self.reach + 1)]

    def _turned(self, rows: Tensor) -> Tensor:
        """(blocks, heads, windows that hear it, ...) to (windows, heads, blocks that it hears, ...), and back again."""
        ways = 2 * self.reach
        return torch.stack([shifted[:, :, ways - i] for i, shifted in enumerate(self._shifted(rows))], dim=2)
