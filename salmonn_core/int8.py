"""A Llama on the CPU in 8-bit integers, several times faster than bfloat16 for the same words.

A token of a small LLM costs what its weights cost to read, so they are kept as int8 with one scale an
output channel (FBGEMM, which multiplies integers directly); activations are quantised row by row as they
come. What makes that harmless is smoothing (SmoothQuant, arXiv 2211.10438): channels that are large in the
activations are divided there and multiplied into the weights, once. The LoRA is merged before, at the
scale that a request asks for; another scale is packed when it is first asked for.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from salmonn_core.int8_pack import Layer, Packed, activation_peaks, pack, shape_of
from salmonn_core.llm import PeftLlm

Linear = Callable[[Tensor, Any], Tensor]
KEPT_SCALES = 2  # LoRA scales that stay packed
GROWTH = 256  # positions by which a KV cache grows
LEVELS = 255.0  # of FBGEMM's unsigned activations
SMALLEST_SCALE = 6.1e-5  # below which FBGEMM rounds no finer


@dataclass
class KvState:
    """Keys and values of some sequences, each from its own position 0 on.

    Attributes:
        keys, values: (layers, sequences, kv heads, room, head_dim) float32.
        lengths: positions used, by sequence.
    """

    keys: Tensor
    values: Tensor
    lengths: list[int]

    def cut(self, positions: int) -> KvState:
        return KvState(self.keys[..., :positions, :].clone(), self.values[..., :positions, :].clone(), [positions])

    def keep(self, rows: list[int]) -> KvState:
        return KvState(self.keys[:, rows], self.values[:, rows], [self.lengths[row] for row in rows])

    def make_room(self, positions: int) -> None:
        """Grow the cache until `positions` fit."""
        room = self.keys.shape[3]
        if positions > room:
            more = (0, 0, 0, math.ceil((positions - room) / GROWTH) * GROWTH)
            self.keys, self.values = F.pad(self.keys, more), F.pad(self.values, more)


@dataclass(frozen=True)
class Engine:
    """A packed model, and its single step as TorchScript."""

    packed: Packed
    step: Any


class Int8Llama:
    """The same contract as `PeftLlm`, whose weights it is packed from."""

    def __init__(self, source: PeftLlm, tokenizer: Any) -> None:
        config = source.model.config
        self._source = source
        self._shape = shape_of(config)
        self._rotation = _rotations(int(config.max_position_embeddings), self._shape.head_dim, config.rope_parameters)
        self._peaks = activation_peaks(source, tokenizer)
        self._at = lru_cache(KEPT_SCALES)(self._engine)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def embed(self, ids: Tensor) -> Tensor:
        return self._source.embed(ids).float()

    def prefill(
        self, prompts: list[Tensor], lora_scale: float, prefix: KvState | None = None
    ) -> tuple[KvState, Tensor]:
        """All positions of all prompts go through a matrix together; attention is each prompt's own."""
        packed = self._at(lora_scale).packed
        base = prefix.lengths[0] if prefix else 0
        state = self._new_state(len(prompts), base + max(len(prompt) for prompt in prompts) + 1)
        if prefix is not None:
            state.keys[..., :base, :] = prefix.keys[..., :base, :]
            state.values[..., :base, :] = prefix.values[..., :base, :]
        logits = self._read(packed, state, [prompt.float() for prompt in prompts], base)
        state.lengths = [base + len(prompt) for prompt in prompts]
        return state, logits

    def step(self, state: KvState, tokens: Tensor, lora_scale: float) -> tuple[KvState, Tensor]:
        engine = self._at(lora_scale)
        state.make_room(max(state.lengths) + 1)
        x = self.embed(tokens)
        if len(tokens) == 1:
            at = state.lengths[0]
            logits = engine.step(x, state.keys, state.values, self._rotation[at], at)
        else:
            logits = self._step_many(engine.packed, state, x)
        state.lengths = [length + 1 for length in state.lengths]
        return state, logits

    def _new_state(self, sequences: int, positions: int) -> KvState:
        room = math.ceil(positions / GROWTH) * GROWTH
        shape = (self._shape.layers, sequences, self._shape.kv_heads, room, self._shape.head_dim)
        return KvState(torch.zeros(shape), torch.zeros(shape), [0] * sequences)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (self._shape.width,), weight, self._shape.eps)

    def _split(self, y: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The fused projection (n, channels) as rotated queries, rotated keys and values, (n, heads, head_dim)."""
        n, both = len(y), self._shape.heads + self._shape.kv_heads
        turned = y[:, : both * self._shape.head_dim].reshape(n, both, -1, 2)
        turned = torch.view_as_real(torch.view_as_complex(turned) * rotation).view(n, both, self._shape.head_dim)
        values = y[:, both * self._shape.head_dim :].view(n, self._shape.kv_heads, self._shape.head_dim)
        return turned[:, : self._shape.heads], turned[:, self._shape.heads :], values

    def _read(self, packed: Packed, state: KvState, prompts: list[Tensor], base: int) -> Tensor:
        """Positions `base` and on of each sequence, (n, width) each; logits (sequences, vocabulary) after the last."""
        counts = [len(prompt) for prompt in prompts]
        rotation = torch.cat([self._rotation[base : base + n] for n in counts])[:, None]
        masks = [_causal(n, base) for n in counts]
        x = torch.cat(prompts)
        for index, layer in enumerate(packed.stack):
            q, k, v = self._split(_linear(self._norm(x, layer.attention_norm), layer.qkv), rotation)
            parts = zip(q.split(counts), k.split(counts), v.split(counts), masks, strict=True)
            heard = [
                self._attend(state.keys[index, row], state.values[index, row], base, *part)
                for row, part in enumerate(parts)
            ]
            x = x + _linear(torch.cat(heard), layer.out)
            x = x + self._feed_forward(x, layer, _linear)
        last = torch.tensor(counts).cumsum(0) - 1
        return _linear(self._norm(x[last], packed.norm), packed.head)

    def _attend(
        self, keys: Tensor, values: Tensor, base: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Causal attention of n new positions, (n, heads, head_dim), over one sequence's cache; (n, width)."""
        end = base + len(q)
        keys[:, base:end] = k.transpose(0, 1)
        values[:, base:end] = v.transpose(0, 1)
        heard = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            keys[None, :, :end],
            values[None, :, :end],
            mask,
            is_causal=mask is None,
            enable_gqa=True,
        )
        return heard[0].transpose(0, 1).reshape(len(q), -1)

    def _step_many(self, packed: Packed, state: KvState, x: Tensor) -> Tensor:
        """One position each of several sequences of different lengths."""
        n, longest = len(x), max(state.lengths) + 1
        at = torch.tensor(state.lengths)
        rows = torch.arange(n)
        rotation = self._rotation[at, None]
        mask = (torch.arange(longest) <= at[:, None])[:, None, None]
        group = self._shape.heads // self._shape.kv_heads
        for index, layer in enumerate(packed.stack):
            q, k, v = self._split(_linear_apart(self._norm(x, layer.attention_norm), layer.qkv), rotation)
            keys, values = state.keys[index], state.values[index]
            keys[rows, :, at] = k
            values[rows, :, at] = v
            queries = q.reshape(n, self._shape.kv_heads, group, self._shape.head_dim)
            heard = F.scaled_dot_product_attention(queries, keys[:, :, :longest], values[:, :, :longest], mask)
            x = x + _linear_apart(heard.reshape(n, -1), layer.out)
            x = x + self._feed_forward(x, layer, _linear_apart)
        return _linear_apart(self._norm(x, packed.norm), packed.head)

    def _feed_forward(self, x: Tensor, layer: Layer, linear: Linear) -> Tensor:
        gate, up = linear(self._norm(x, layer.feed_forward_norm), layer.gate_up).chunk(2, dim=-1)
        return linear(F.silu(gate) * up, layer.down)

    def _engine(self, lora_scale: float) -> Engine:
        packed = pack(self._source, lora_scale, self._peaks)
        with warnings.catch_warnings():
            # TorchScript is being retired, but nothing else takes the interpreter out of a 10 ms step.
            warnings.simplefilter("ignore", DeprecationWarning)
            return Engine(packed, torch.jit.script(packed))


def _rotations(positions: int, head_dim: int, rope: dict[str, Any]) -> Tensor:
    """(positions, head_dim / 2) complex units."""
    frequency = 1.0 / float(rope["rope_theta"]) ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.outer(torch.arange(positions).float(), frequency)
    return torch.polar(torch.ones_like(angle), angle)


def _causal(n: int, base: int) -> Tensor | None:
    """What n positions after `base` others may not see, to be added to the scores; None is the plain triangle."""
    return None if base == 0 else torch.full((n, base + n), -math.inf).triu(base + 1)


def _linear(x: Tensor, packed: Any) -> Tensor:
    """Rows, (rows, inputs) float32, times a packed matrix; each row rounded within its own range.

    FBGEMM has one range for all rows, so every row is brought to a peak of one beside a row that spans both signs.
    """
    peak = x.abs().amax(dim=1, keepdim=True).clamp_min(1e-9)
    rows = x.new_zeros(len(x) + 1, x.shape[1])
    torch.div(x, peak, out=rows[:-1])
    rows[-1, 0], rows[-1, 1] = 1.0, -1.0
    return torch.ops.quantized.linear_dynamic(rows, packed)[:-1].mul_(peak)


def _linear_apart(x: Tensor, packed: Any) -> Tensor:
    """Rows of different sequences, (rows, inputs): each is rounded exactly as it would be alone.

    The rows are given as the integers that FBGEMM would make of each, so that an answer does not depend on its
    neighbours; a row of 255 fixes the range and brings the sums that undo the zero points.
    """
    low, high = x.amin(dim=1, keepdim=True).clamp_max(0.0), x.amax(dim=1, keepdim=True).clamp_min(0.0)
    scale = ((high - low) / LEVELS).clamp_min(SMALLEST_SCALE)
    zero = (-low / scale).round()
    integers = ((x / scale).round() + zero).clamp(0.0, LEVELS)
    y = torch.ops.quantized.linear_dynamic(torch.cat((integers, x.new_full((1, x.shape[1]), LEVELS))), packed)
    return (y[:-1] - zero * (y[-1:] / LEVELS)) * scale
