"""Each audio token of a clip looks at those beside it: convolutions over time, after the Q-Former.

Ours, not the paper's: a window by itself does not know what those beside it say (docs/training-log.md). The blocks are
the convolution modules of the Conformer (Gulati et al. 2020, section 2.2) with a LayerNorm for its BatchNorm, because
clips come one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 7  # tokens


class Neighbours(nn.Module):
    """Some blocks in a row; new ones leave the tokens as they are."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))

    def forward(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """The same tokens, each having looked at its neighbours.

        Args:
            tokens: (tokens of all clips, width), one clip after the other.
            lengths: how many tokens each clip has; clips do not see each other.
        """
        for block in self.blocks:
            tokens = block(tokens, lengths)
        return tokens


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gated, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.taps = nn.Parameter(torch.randn(width, KERNEL) * KERNEL**-0.5)
        self.dropout = nn.Dropout(0.1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        seen = F.glu(self.gated(self.norm(tokens)), dim=-1)
        # After each clip are KERNEL // 2 silent tokens, which are left out again.
        silence = seen.new_zeros(KERNEL // 2, seen.shape[1])
        laid = [part for clip in seen.split(list(lengths)) for part in (clip, silence)]
        count = sum(map(len, laid))
        apart = torch.cat([silence, *laid, silence])
        taps = self.taps.T.contiguous()  # a fifth of the time of columns as they lie
        mixed = sum((apart[i : i + count] * taps[i] for i in range(1, KERNEL)), apart[:count] * taps[0])
        kept = torch.cat(mixed.split([len(part) for part in laid])[::2])
        return tokens + self.dropout(self.out(F.silu(self.norm_after(kept))))
