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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from salmonn_core.audio import groups
from salmonn_core.int8_pack import Packed, activation_peaks, pack, shape_of
from salmonn_core.llm import PeftLlm

KEPT_SCALES = 2  # LoRA scales that stay packed
READ_TOGETHER = 512  # positions of several prompts; more than fit the processor's cache are slower, not faster
GROWTH = 64  # positions by which a KV cache grows
SPARE_ROWS = 4  # sequences for which it has room then, when one is followed in several ways


@dataclass
class KvState:
    """Keys and values of some sequences, each from its own position 0 on.

    Attributes:
        keys, values: (layers, sequences or more, kv heads, room, head_dim) float32.
        lengths: positions used, by sequence.
        shared: positions that are alike in all sequences, which one prompt began.
        begun: rows that hold them, in use or not.
    """

    keys: Tensor
    values: Tensor
    lengths: list[int]
    shared: int = 0
    begun: int = 0

    def one(self, row: int) -> KvState:
        return self.part(range(row, row + 1))

    def cut(self, positions: int) -> KvState:
        keys, values = (each[:, :1, :, :positions].clone() for each in (self.keys, self.values))
        return KvState(keys, values, [positions])

    def part(self, rows: range) -> KvState:
        """Some neighbours, sharing memory."""
        at = slice(rows.start, rows.stop)
        return KvState(self.keys[:, at], self.values[:, at], self.lengths[at])

    def copy(self, moves: Sequence[tuple[int, int, int]]) -> None:
        """What rows hold into others: from which row, into which, and from which position on."""
        overwritten = {into for _, into, _ in moves}
        for each in (self.keys, self.values):
            held = {row: each[:, row].clone() if row in overwritten else each[:, row] for row, _, _ in moves}
            for row, into, start in moves:
                used = slice(start, self.lengths[row])
                each[:, into, :, used].copy_(held[row][:, :, used])

    def make_room(self, positions: int) -> None:
        """Grow the cache until `positions` fit."""
        room = self.keys.shape[3]
        if positions > room:
            more = (0, 0, 0, whole(positions) - room)
            self.keys, self.values = F.pad(self.keys, more), F.pad(self.values, more)


def whole(positions: int) -> int:
    """The next whole step of a cache's room."""
    return math.ceil(positions / GROWTH) * GROWTH


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
        self._packing = Lock()
        self._packed = lru_cache(KEPT_SCALES)(self._engine)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def embed(self, ids: Tensor) -> Tensor:
        return self._source.embed(ids).float()

    def prefill(
        self, prompts: list[Tensor], lora_scale: float, prefixes: Sequence[KvState | None] = ()
    ) -> tuple[KvState, Tensor]:
        """Positions of several prompts go through a matrix together; attention is each prompt's own."""
        packed = self._at(lora_scale).packed
        before = list(prefixes) or [None] * len(prompts)
        bases = [prefix.lengths[0] if prefix else 0 for prefix in before]
        ends = [base + len(prompt) for base, prompt in zip(bases, prompts, strict=True)]
        state = self._new_state(len(prompts), max(ends) + 1)
        for row, (prefix, base) in enumerate(zip(before, bases, strict=True)):
            if prefix is not None:
                state.keys[:, row, :, :base] = prefix.keys[:, 0, :, :base]
                state.values[:, row, :, :base] = prefix.values[:, 0, :, :base]
        logits = [
            self._read(packed, state.part(rows), [prompts[row].float() for row in rows], [bases[row] for row in rows])
            for rows in groups([len(prompt) for prompt in prompts], READ_TOGETHER)
        ]
        state.lengths = ends
        state.shared, state.begun = ends[0] if len(ends) == 1 else 0, len(ends)
        return state, torch.cat(logits)

    def pick(self, state: KvState, rows: list[int]) -> KvState:
        """Only what does not stay in its row is copied, and not what is alike there: a prompt takes megabytes."""
        spare = state.keys.shape[1] - len(rows)
        if spare < 0:
            more = (0, 0, 0, 0, 0, 0, 0, max(SPARE_ROWS, len(rows) // 4) - spare)
            state.keys, state.values = F.pad(state.keys, more), F.pad(state.values, more)
        known = [state.shared if at < state.begun else 0 for at in range(len(rows))]
        state.copy([(row, at, known[at]) for at, row in enumerate(rows) if at != row])
        begun = max(state.begun, len(rows))
        return replace(state, lengths=[state.lengths[row] for row in rows], begun=begun)

    def step(self, state: KvState, tokens: Tensor, lora_scale: float) -> tuple[KvState, Tensor]:
        state.make_room(max(state.lengths) + 1)
        rotation, at, hidden = self._places(state)
        n = len(state.lengths)
        logits = self._at(lora_scale).step(
            self.embed(tokens), state.keys[:, :n], state.values[:, :n], rotation, at, hidden
        )
        state.lengths = [length + 1 for length in state.lengths]
        return state, logits

    def _places(self, state: KvState) -> tuple[Tensor, Tensor, Tensor]:
        """Where the next position of each sequence is: `rotation`, `at` and `hidden` of `Layer`."""
        n, heads, room = len(state.lengths), self._shape.kv_heads, state.keys.shape[3]
        lengths = torch.tensor(state.lengths)
        # Whole steps of positions, so that sums over them do not depend on how long the neighbours are.
        hidden = torch.zeros(n, 1, whole(max(state.lengths) + 1))
        hidden.masked_fill_(torch.arange(hidden.shape[2]) > lengths[:, None, None], -math.inf)
        at = (torch.arange(n * heads).view(n, heads) * room + lengths[:, None]).flatten()
        return self._rotation[lengths, None], at, hidden.repeat_interleave(heads, dim=0)

    def _new_state(self, sequences: int, positions: int) -> KvState:
        shape = (self._shape.layers, sequences, self._shape.kv_heads, whole(positions), self._shape.head_dim)
        return KvState(torch.zeros(shape), torch.zeros(shape), [0] * sequences)

    def _read(self, packed: Packed, state: KvState, prompts: list[Tensor], bases: list[int]) -> Tensor:
        """What stands after `bases` of each sequence, (n, width) each; logits (sequences, vocabulary)."""
        counts = [len(prompt) for prompt in prompts]
        places = list(zip(counts, bases, strict=True))
        rotation = torch.cat([self._rotation[base : base + n] for n, base in places])[:, None]
        masks = [_causal(n, base) for n, base in places]
        x = torch.cat(prompts)
        for index, layer in enumerate(packed.stack):
            q, k, v = layer.split(layer.qkv(x * layer.attention_norm).mul_(layer.root(x)), rotation)
            parts = zip(bases, q.split(counts), k.split(counts), v.split(counts), masks, strict=True)
            heard = [
                self._attend(state.keys[index, row], state.values[index, row], *part) for row, part in enumerate(parts)
            ]
            x = x + layer.out(torch.cat(heard))
            gate, up = layer.gate_up(x * layer.feed_forward_norm).mul_(layer.root(x)).chunk(2, dim=-1)
            x = x + layer.down(F.silu(gate).mul_(up))
        return packed.logits(x[torch.tensor(counts).cumsum(0) - 1])

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

    def _at(self, lora_scale: float) -> Engine:
        with self._packing:  # one packs what another waits for
            return self._packed(lora_scale)

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
