"""Stage 0: teach the bridge alone to put audio tokens next to the embeddings of the words spoken.

CTC whose classifier is the LLM's own frozen input-embedding matrix: logits are the cosine between an
audio token and each embedding times a learned scale, over the tokens that occur in the set, plus a
learned blank. Sounds have no order of words; their labels are the namer's (`salmonn_core.training.naming`).
No LLM runs, so a step costs a few hundredths of the later stages; without it the LLM's loss sits on a
plateau for thousands of steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.bridge import Bridge, pad_tokens
from salmonn_core.reading import Reader
from salmonn_core.training.corpus import SPEECH_WIDTH

# Wrong classes that a step compares with: all twenty thousand would cost more than the Q-Former itself.
NEGATIVES = 4096


class CtcHead(Reader):
    """The reader of `salmonn_core.reading` while it learns."""

    def __init__(self, embeddings: Tensor, tokens: list[int]) -> None:
        """Args: embeddings: of the LLM's whole vocabulary; tokens: ids of those that occur in the set."""
        super().__init__(embeddings[tokens], torch.tensor(tokens))
        self.scale = nn.Parameter(self.scale.data.view(1))  # a number by itself cannot be shared out (FSDP)
        self.class_of = {token: i + 1 for i, token in enumerate(tokens)}

    def compared(self, targets: list[list[int]], generator: torch.Generator) -> Tensor:
        """The classes that a step compares with: those that its texts need and a sample of the others; sorted."""
        wanted = torch.tensor([self.class_of[t] - 1 for target in targets for t in target], dtype=torch.long)
        sample = torch.randperm(len(self.tokens), generator=generator)[:NEGATIVES]
        return torch.cat((wanted, sample)).unique()

    def loss(self, audio_tokens: list[Tensor], targets: list[list[int]], only: Tensor) -> Tensor:
        """Sum over clips of the CTC loss a target token; clips too short for their text count zero."""
        wanted = torch.tensor([self.class_of[t] - 1 for target in targets for t in target], dtype=torch.long)
        classes = torch.searchsorted(only, wanted) + 1  # class 0 is the blank
        padded = pad_tokens(audio_tokens)
        log_probs = self(padded, only.to(padded.device)).transpose(0, 1)
        lengths = torch.tensor([len(t) for t in audio_tokens])
        target_lengths = torch.tensor([len(target) for target in targets])
        each = F.ctc_loss(
            log_probs, classes.to(padded.device), lengths, target_lengths, reduction="none", zero_infinity=True
        )
        return (each / target_lengths.to(each.device)).sum()


def silence_missing_stream(bridge: Bridge) -> None:
    """Start deaf to BEATs: its columns of the cross-attention are zero, so it can join later without a jolt."""
    for layer in bridge.qformer.encoder.layer:
        attention = layer.crossattention.attention
        for linear in (attention.key, attention.value):
            linear.weight.data[:, SPEECH_WIDTH:] = 0.0
