"""Stage letters: teach `salmonn_core.letters` to write down what is said, letter by letter.

CTC on Whisper's states alone: neither bridge nor LLM is needed, so it can run beside any other stage. A learned word
needs to be spoken often before the audio tokens know it; a letter is spoken all the time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from salmonn_core.letters import CLASS_OF, TOGETHER, Letters, as_classes, likeliest
from salmonn_core.loading import float_type, part
from salmonn_core.namer import Names
from salmonn_core.training.config import TrainConfig
from salmonn_core.training.corpus import SPEECH_WIDTH, TINY_LETTERS, Pair, masked
from salmonn_core.training.features import accelerator
from salmonn_core.training.learned import letters_of
from salmonn_core.training.sharding import whole
from salmonn_core.training.tasks import Example

HALF_WAY = 0.3  # how much the reading half way counts beside the last one
DECAY = 0.02


class LetterTrainee(nn.Module):
    """The letters while they learn: what `Trainer` wants of a stage."""

    llm, labels = None, ()

    def __init__(self, letters: Letters, masking: float, bf16: bool, variety: float = 0.0) -> None:
        super().__init__()
        self.letters, self.masking, self.bf16, self.variety = letters, masking, bf16, variety

    @property
    def device(self) -> torch.device:
        return self.letters.enter.weight.device

    def weight(self, example: Example) -> float:
        """No LLM, no loss of one."""
        return 0.0

    def spelling(self, example: Example) -> list[int]:
        """The clip's letters as CTC targets; empty if it has none, or signs that are no letters."""
        text = example.clip.text
        return as_classes(text) if example.clip.kind == "speech" and set(text) <= CLASS_OF.keys() else []

    def worth(self, spelled: list[int]) -> float:
        """How much a clip counts: the root of its letters, so that neither words nor long sentences are everything."""
        return math.sqrt(len(spelled))

    def compared(self, spelled: list[list[int]], generator: torch.Generator) -> Tensor:
        """All classes; they are few."""
        return torch.empty(0)

    def names(self, path: str, question: str) -> Names:
        return Names()

    def forward(self, examples: list[Example], pairs: list[Pair], compared: Tensor) -> Tensor:
        """Sums over clips of no LLM's loss and of the CTC loss a letter, each clip's by its `worth`: (2,)."""
        spelled = [(ids, states) for e, (states, _) in zip(examples, pairs, strict=True) if (ids := self.spelling(e))]
        if not spelled:
            return torch.stack([p.sum() for p in self.parameters()]).sum() * torch.zeros(2, device=self.device)
        clips = [states.to(self.device) for _, states in spelled]
        if self.training and self.variety:
            clips = [varied(clip, self.variety, 2 * len(ids)) for clip, (ids, _) in zip(clips, spelled, strict=True)]
        if self.training and self.masking:
            clips = [masked(clip, self.masking) for clip in clips]
        lengths = torch.tensor([len(clip) for clip in clips])
        targets = torch.tensor([class_ for ids, _ in spelled for class_ in ids])
        sizes = torch.tensor([len(ids) for ids, _ in spelled])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            first, last = self.letters.read_twice(even(clips), lengths.to(self.device))
        half, end = (
            F.ctc_loss(
                read.transpose(0, 1), targets.to(read.device), lengths, sizes, reduction="none", zero_infinity=True
            )
            for read in (first, last)
        )
        each = (HALF_WAY * half + (1.0 - HALF_WAY) * end) / sizes.to(end.device).sqrt()
        return torch.stack((each.sum() * 0.0, each.sum()))

    @torch.inference_mode()
    def read(self, pair: Pair) -> str:
        """What the letters say by themselves."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return likeliest(self.letters(pair[0].to(self.device)))

    def groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """What the optimizer gets."""
        return [{"params": list(self.parameters()), "full_lr": config.lr_bridge, "weight_decay": DECAY}]

    def state(self) -> dict[str, Tensor]:
        """Weights of a checkpoint: `letters.`."""
        return {f"letters.{k}": whole(v) for k, v in self.letters.state_dict().items()}

    def load(self, state: dict[str, Tensor]) -> bool:
        """Take a checkpoint's weights; there is no LoRA among them."""
        self.letters.load_state_dict(part(state, "letters."))
        return False

    def said(self) -> dict[str, Any]:
        """What a checkpoint says of itself."""
        return {}


def varied(states: Tensor, share: float, least: int) -> Tensor:
    """Another voice, room and tempo, as far as states show them.

    Each channel's gain and level are off by about a share, and half of the clips slower or faster by as much at most.

    Args:
        states: (frames, width) of a clip.
        least: frames that its letters need.
    """
    frames = round(len(states) * (1.0 + share * (2.0 * torch.rand(()).item() - 1.0)))
    if torch.rand(()) < 0.5 and frames > least:
        states = F.interpolate(states.T[None], size=frames, mode="linear", align_corners=True)[0].T
    gain, level = torch.randn(2, states.shape[1]).to(states) * share
    return states * (1.0 + gain) + level * states.std(dim=0)


def even(clips: list[Tensor]) -> Tensor:
    """(clips, frames, width) with zeros behind each, as many frames as `Letters` takes together."""
    laid = pad_sequence(clips, batch_first=True)
    return F.pad(laid, (0, 0, 0, -laid.shape[1] % TOGETHER))


def build(config: TrainConfig) -> LetterTrainee:
    """New, or as the checkpoint or model that the config names left it."""
    letters, bf16 = Letters(TINY_LETTERS, SPEECH_WIDTH), float_type(accelerator(), config.precision) is torch.bfloat16
    trainee = LetterTrainee(letters, config.masking, bf16, config.variety)
    if config.start:
        trainee.load(letters_of(config.start))
    return trainee
