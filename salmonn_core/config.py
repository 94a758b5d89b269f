"""Sizes and settings of a SALMONN model, as frozen records that a checkpoint's `config.json` fills.

Importing this costs no torch: the assistant reads it to describe a model without loading one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from salmonn_core.errors import UserError

SAMPLE_RATE = 16_000
FRAME_RATE = 50  # encoder states a second, both encoders
MIN_SECONDS, MAX_SECONDS = 1.0, 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class BeatsConfig:
    """The published `cfg` of a BEATs checkpoint, of which only these fields matter for inference."""

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    deep_norm: bool = True
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    finetuned_model: bool = False  # has a predictor, which SALMONN skips
    predictor_class: int = 527
    post_extract_proj: bool = True  # the reference leaves it out where both widths are equal


def _frames(seconds: float) -> int:
    """round(1500 x seconds / 30), half to even, as in the reference."""
    return round(FRAME_RATE * MAX_SECONDS * seconds / MAX_SECONDS)


@dataclass(frozen=True)
class QFormerConfig:
    """The window-level Q-Former (paper, section 3.1)."""

    hidden_size: int = 768
    layers: int = 2
    attention_heads: int = 12
    intermediate_size: int = 3072
    queries: int = 1
    window_s: float = 0.333333
    stride_s: float = 0.333333
    context_s: float = 0.0  # heard on either side of each window too; none in the paper
    neighbours: int = 0  # blocks in which audio tokens look at those beside them; none in the paper

    @property
    def window_frames(self) -> int:
        """0.333333 s is 17 frames."""
        return _frames(self.window_s)

    @property
    def stride_frames(self) -> int:
        return _frames(self.stride_s)

    @property
    def context_frames(self) -> int:
        return _frames(self.context_s)

    @property
    def heard_frames(self) -> int:
        """Of a window and the context on both its sides."""
        return self.window_frames + 2 * self.context_frames

    def audio_tokens(self, frames: int) -> int:
        """Audio tokens that so many encoder frames give; a last partial window is dropped."""
        windows = max(0, (frames - self.window_frames) // self.stride_frames + 1)
        return windows * self.queries


@dataclass(frozen=True)
class LettersConfig:
    """The convolutions that read letters (`salmonn_core.letters`); without blocks there are none, as in the paper.

    Attributes:
        lexicon: language whose words transcripts are made of, by wordfreq's code; empty replaces no word.
    """

    width: int = 256
    blocks: int = 0
    lexicon: str = "en"


@dataclass(frozen=True)
class LoraConfig:
    """LoRA on the LLM (paper, section 4.1: r 8, alpha 32 on the query and value projections)."""

    rank: int = 8
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True)
class PromptConfig:
    """How a question and the audio become one prompt. The defaults are the official template."""

    template: str = "USER: {}\nASSISTANT:"
    speech: str = "<Speech><SpeechHere></Speech> "
    bos: bool = True
    system: str = ""


@dataclass(frozen=True)
class SalmonnConfig:
    """Everything needed to build a SALMONN and to load its weights."""

    name: str = "salmonn"
    whisper: str = "whisper-base"
    llm: str = "smollm2-135m-instruct"
    beats: BeatsConfig = field(default_factory=BeatsConfig)
    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    letters: LettersConfig = field(default_factory=LettersConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    # The official checkpoints were trained on 30 s of padding; salmonn-tiny on the clip alone.
    pad_to_30s: bool = True
    training_stage: str = "untrained"
    labels: tuple[str, ...] = ()  # what the bridge's namer names, in its order; without any there is none
    # Which base models these are (`weights.official.fingerprint`); empty is not checked.
    whisper_fingerprint: str = ""
    llm_fingerprint: str = ""
    license: str = ""


def from_dict(kind: type[T], values: dict[str, Any], where: str = "config.json") -> T:
    """Build a (nested) config record, refusing keys that it does not have.

    Raises:
        UserError: naming the unknown key and the known ones.
    """
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r}; known keys are {', '.join(sorted(known))}")
    built = {
        key: from_dict(hints[key], value, f"{where}: {key}")
        if is_dataclass(hints[key])
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in values.items()
    }
    return kind(**built)
