"""What was said, letter by letter, from the Whisper states alone.

The audio tokens stand beside the embeddings of words that training heard often, and say little of any other
(docs/training-log.md). Letters are the same in all words. Read as CTC (Graves et al. 2006) they are a second rough
transcript, which knows how a word sounds that nobody ever spoke to it, and which together with the LLM and the audio
tokens' own reading makes the transcript (`salmonn_core.reading`). Ours, not the paper's.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.config import LettersConfig
from salmonn_core.paths import collapsed

LETTERS = " 'abcdefghijklmnopqrstuvwxyz"  # classes 1 and on; class 0 is the blank
CLASSES = 1 + len(LETTERS)
CLASS_OF = {letter: class_ for class_, letter in enumerate(LETTERS, start=1)}
TOGETHER = 2  # encoder frames that are one position inside
KERNEL = 3  # positions
DILATIONS = (1, 2, 4)  # of the blocks, in turn: eleven of them see 0.96 s on either side
WIDENED = 2


class Letters(nn.Module):
    """Residual convolutions over time; half way they are told what has been read so far.

    That is self-conditioned CTC (Nozaki and Komatsu 2021): neighbours agree on who writes which letter.

    Args:
        config: its sizes.
        speech_width: of the Whisper states.
    """

    def __init__(self, config: LettersConfig, speech_width: int) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(speech_width)
        self.enter = nn.Linear(TOGETHER * speech_width, width)
        self.blocks = nn.ModuleList(_Block(width, DILATIONS[i % len(DILATIONS)]) for i in range(config.blocks))
        self.leave_norm, self.leave = nn.LayerNorm(width), nn.Linear(width, TOGETHER * CLASSES)
        self.told = nn.Linear(TOGETHER * CLASSES, width)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Whisper states of a clip, (frames, speech_width), to log-probabilities (frames, CLASSES)."""
        lengths = torch.tensor([len(states)], device=states.device)
        return self.read_twice(F.pad(states, (0, 0, 0, len(states) % TOGETHER))[None], lengths)[1][0, : len(states)]

    def read_twice(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities half way and at the end, (clips, frames, CLASSES) float32 each.

        Args:
            states: (clips, frames, speech_width), a multiple of TOGETHER frames, zeros behind each clip.
            lengths: (clips,) frames of each.
        """
        positions = torch.arange(states.shape[1] // TOGETHER, device=states.device)
        inside = (positions < (lengths[:, None] + TOGETHER - 1) // TOGETHER)[..., None]
        heard = self.enter(self.norm(states).unflatten(1, (-1, TOGETHER)).flatten(2))
        half = len(self.blocks) // 2
        for block in self.blocks[:half]:
            heard = block(heard, inside)
        first = self._read(heard)
        heard = heard + self.told(first.exp().unflatten(1, (-1, TOGETHER)).flatten(2).to(heard.dtype)).to(heard.dtype)
        for block in self.blocks[half:]:
            heard = block(heard, inside)
        return first, self._read(heard)

    def _read(self, heard: Tensor) -> Tensor:
        logits = cast(Tensor, self.leave(self.leave_norm(heard))).float()
        return logits.unflatten(-1, (TOGETHER, CLASSES)).flatten(1, 2).log_softmax(dim=-1)


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        reach = KERNEL // 2 * dilation
        self.conv = nn.Conv2d(width, WIDENED * width, (1, KERNEL), padding=(0, reach), dilation=(1, dilation))
        self.down = nn.Linear(WIDENED * width, width)
        self.down.weight.data *= 0.5
        self.dropout = nn.Dropout1d(0.1)

    def forward(self, heard: Tensor, inside: Tensor) -> Tensor:
        """(clips, positions, width); `inside` is false behind the end of a clip."""
        # An image of one row with channels last: torch's fast convolution, and no copy.
        laid = (self.norm(heard) * inside.to(heard.dtype)).transpose(1, 2)[:, :, None]
        mixed = cast(Tensor, self.conv(laid))[:, :, 0]
        mixed = self.down(F.silu(mixed).transpose(1, 2))
        return heard + cast(Tensor, self.dropout(mixed.transpose(1, 2))).transpose(1, 2)


def as_classes(text: str) -> list[int]:
    """The classes of a plain text: lower case, no digits, one space between words."""
    return [CLASS_OF[letter] for letter in text]


def likeliest(log_probs: Tensor) -> str:
    """The text of the best class of each frame, (frames, CLASSES): repeats merged, blanks dropped."""
    return " ".join(as_text(log_probs.argmax(dim=-1).cpu().numpy()).split())


def as_text(best: np.ndarray) -> str:
    """The same of the best classes themselves, (frames,), with every space."""
    return "".join(LETTERS[class_ - 1] for class_ in collapsed(best))
