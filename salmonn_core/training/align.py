"""Stage 0: teach the bridge alone to put audio tokens next to the embeddings of the words spoken.

CTC whose classifier is the LLM's own frozen input-embedding matrix: logits are the cosine between an
audio token and each embedding times a learned scale, over the tokens that occur in the set, plus a
learned blank. Sounds have no order of words, so their labels are asked of all tokens of a clip together.
No LLM runs, so a step costs a few hundredths of the later stages; without it the LLM's loss sits on a
plateau for thousands of steps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.bridge import Bridge, pad_tokens
from salmonn_core.reading import Reader
from salmonn_core.training.corpus import SPEECH_WIDTH, Clip
from salmonn_core.training.pieces import Pieces

# Wrong classes that a step compares with: all twenty thousand would cost more than the Q-Former itself.
NEGATIVES = 4096


class CtcHead(Reader):
    """The reader of `salmonn_core.reading` while it learns."""

    def __init__(self, embeddings: Tensor, tokens: list[int]) -> None:
        """Args: embeddings: of the LLM's whole vocabulary; tokens: ids of those that occur in the set."""
        super().__init__(embeddings[tokens], torch.tensor(tokens))
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


class Tagger(nn.Module):
    """Puts the audio tokens of a sound or of music next to the embeddings of its labels' words.

    Logits are the mean over a clip's tokens, inside an exponential, of the cosine to each label times a learned scale:
    a sound may be anywhere in its clip.

    Args:
        embeddings: of the LLM's whole vocabulary.
        tags: the labels that occur in the set.
        pieces: how they are spelled.
    """

    def __init__(self, embeddings: Tensor, tags: list[str], pieces: Pieces, initial_scale: float = 20.0) -> None:
        super().__init__()
        self.number = {tag: i for i, tag in enumerate(tags)}
        words = [F.normalize(embeddings[pieces.ids(tag)].float(), dim=-1).mean(dim=0) for tag in tags]
        classes = torch.stack(words) if words else torch.zeros(0, embeddings.shape[1])
        self.register_buffer("classes", F.normalize(classes, dim=-1), persistent=False)
        self.scale = nn.Parameter(torch.tensor(initial_scale).log())

    def forward(self, audio_tokens: Tensor) -> Tensor:
        """(length, width) of one clip to logits (tags,)."""
        cosine = F.normalize(audio_tokens.float(), dim=-1) @ self.classes.T  # type: ignore[operator]
        return (cosine * self.scale.exp()).logsumexp(dim=0) - math.log(len(audio_tokens))

    def loss(self, audio_tokens: list[Tensor], tags: list[list[str]]) -> Tensor:
        """Sum over clips of the cross-entropy, each of a clip's labels as likely as the others."""
        log_probs = torch.stack([self(tokens) for tokens in audio_tokens]).log_softmax(dim=-1)
        means = [row[[self.number[tag] for tag in those]].mean() for row, those in zip(log_probs, tags, strict=True)]
        return -torch.stack(means).sum()


def tags_of(clip: Clip) -> list[str]:
    """What a sound or a piece of music is labelled with, each once; nothing for speech and for scenes."""
    if clip.kind == "speech" or clip.task not in (None, "audiocaption", "music_description"):
        return []
    facts = [f"{clip.row[key]} {noun}" for key, noun in (("tempo", "tempo"), ("mode", "key")) if clip.row.get(key)]
    labels: list[str] = [*(clip.row.get("labels") or ()), *(clip.row.get("instruments") or ())]  # type: ignore[misc]
    return list(dict.fromkeys([*labels, *facts]))


def silence_missing_stream(bridge: Bridge) -> None:
    """Start deaf to BEATs: its columns of the cross-attention are zero, so it can join later without a jolt."""
    for layer in bridge.qformer.encoder.layer:
        attention = layer.crossattention.attention
        for linear in (attention.key, attention.value):
            linear.weight.data[:, SPEECH_WIDTH:] = 0.0
