"""A plain Llama's passes over one sequence as a few kernels a layer: a decoding step, and a prompt.

A step is `salmonn_core.kernels` alone. A prompt's matrix products are cuBLAS's, and what stands between them is
`salmonn_core.prompt_kernels`, where transformers and peft take some sixty kernels a layer.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from os import environ
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTENTION = ("q_proj", "k_proj", "v_proj")


class Tile(NamedTuple):
    """What a program takes of a matrix: rows, columns at a time, with how many warps and so many turns written out."""

    rows: int
    block: int
    warps: int
    unroll: int = 1


# Swept on an H200 (docs/benchmarks.md), of those whose columns no usual width leaves idle.
TILE = Tile(4, 512, 4)
TILES = {  # of (rows, width), those of the published 7B and 13B, for which the sweep found a better one
    (12_336, 4096): Tile(8, 256, 4, 2),
    (4096, 4096): Tile(4, 512, 4, 2),
    (11_008, 4096): Tile(1, 4096, 4),
    (4096, 11_008): Tile(4, 512, 4, 2),
    (32_000, 4096): Tile(2, 512, 2, 2),
    (15_408, 5120): Tile(2, 512, 2, 2),
    (5120, 5120): Tile(2, 512, 2, 2),
    (13_824, 5120): Tile(1, 1024, 2, 2),
    (5120, 13_824): Tile(2, 512, 2, 2),
    (32_000, 5120): Tile(2, 512, 2, 2),
}
AMPERE = (8, 0)  # the first with bfloat16
HOPPER = (9, 0)  # the first whose programs can begin, and ask for their weights, before the kernel before has ended
SEEN_BLOCK = 64  # positions of a program of attention
ROWS = 32  # positions of a prompt that a program takes
GATE_BLOCK = 1024  # of a position's inner values
LEAST_DOT = 16  # of what Triton's product of two blocks sums over; a LoRA of a lower rank is padded


def can_fuse(llm: Any) -> bool:
    """Whether a LlamaForCausalLM, its projections perhaps peft's, can be run by the kernels here.

    They need Triton and the C compiler it calls, plain matrices in half precision, and a LoRA on nothing but queries,
    keys and values.
    """
    if find_spec("triton") is None or not (environ.get("CC") or shutil.which("cc") or shutil.which("gcc")):
        return False
    layer = llm.model.layers[0]
    others = (layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj, llm.lm_head)
    dim = layer.self_attn.head_dim
    plain = all(type(module) is nn.Linear and module.bias is None for module in others)
    return plain and _compiles(others[0].weight) and dim >= LEAST_DOT and dim & (dim - 1) == 0


def _compiles(weight: Tensor) -> bool:
    """Whether Triton has the weight's numbers, in half precision, where it stands."""
    if weight.dtype == torch.bfloat16 and weight.is_cuda and torch.version.cuda is not None:
        return torch.cuda.get_device_capability(weight.device) >= AMPERE
    return weight.dtype in (torch.bfloat16, torch.float16)


class FusedLayer:
    """The matrices of one layer as the kernels read them.

    Queries, keys, values and the LoRA's inner matrices stand in one matrix, gate and up in another, which the layer's
    own modules share from then on: nothing is kept twice.
    """

    def __init__(self, layer: Any, rank: int) -> None:
        attention = layer.self_attn
        self.heads_in, self.after = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        self.out, self.down = attention.o_proj.weight, layer.mlp.down_proj.weight
        gate_and_up = [layer.mlp.gate_proj, layer.mlp.up_proj]
        self.both = _joined(gate_and_up)
        self.gate, self.up = (module.weight for module in gate_and_up)
        projections = [getattr(attention, name) for name in ATTENTION]
        bases = [getattr(projection, "base_layer", projection) for projection in projections]
        inner, outer = zip(*(_lora(p, b.weight, rank) for p, b in zip(projections, bases, strict=True)), strict=True)
        self.lora = torch.cat(outer)
        self.inward = _joined(bases, inner)


def _joined(modules: Sequence[Any], more: Sequence[Tensor] = ()) -> Tensor:
    """The modules' matrices in one, (rows, width), of which they have their own from then on; `more` behind them."""
    whole = torch.cat([*(module.weight.data for module in modules), *more])
    at = 0
    for module in modules:
        rows = len(module.weight)
        module.weight.data = whole[at : at + rows]
        at += rows
    return whole


def _lora(projection: Any, weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The two matrices of a projection's LoRA, padded to `rank`: (rank, width) and (rows, rank); zeros without one."""
    inner, outer = weight.new_zeros(rank, weight.shape[1]), weight.new_zeros(weight.shape[0], rank)
    if hasattr(projection, "lora_A"):
        down, up = projection.lora_A["default"].weight, projection.lora_B["default"].weight
        inner[: len(down)], outer[:, : len(down)] = down, up
    return inner, outer


class Fused:
    """The passes over one sequence, and what stands between their kernels."""

    def __init__(self, llm: Any) -> None:
        """Joins the model's matrices, which moves them: nothing may have been recorded over them before.

        Args:
            llm: transformers' LlamaForCausalLM for which `can_fuse`.
        """
        model, config = llm.model, llm.config
        lora = [p for name in ATTENTION if hasattr(p := getattr(model.layers[0].self_attn, name), "lora_A")]
        rank = max([LEAST_DOT, *(1 << (p.r["default"] - 1).bit_length() for p in lora)])
        self.layers = [FusedLayer(layer, rank) for layer in model.layers]
        self.rank, self.eps = rank, config.rms_norm_eps
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.dim = model.layers[0].self_attn.head_dim
        self.table, self.last, self.head = model.embed_tokens.weight, model.norm.weight, llm.lm_head.weight
        positions = torch.arange(config.max_position_embeddings, device=self.table.device)
        angles = model.rotary_emb.inv_freq.float()[None] * positions[:, None]
        stretch = model.rotary_emb.attention_scaling
        self.cosine, self.sine = (angles.cos() * stretch).contiguous(), (angles.sin() * stretch).contiguous()
        new = self.table.new_empty
        self._projected = new(len(self.layers[0].inward), dtype=torch.float32)
        self._query, self._heard = new(self.heads * self.dim), new(self.heads * self.dim)
        self._inner, self._logits = new(len(self.layers[0].gate)), new(len(self.head), dtype=torch.float32)
        self._finished = torch.zeros(self.heads, dtype=torch.int32, device=self.table.device)
        self._parts: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def step(
        self, token: Tensor, at: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], strength: float
    ) -> Tensor:
        """Append a token.

        Args:
            token, at: (1,) its id and position, on the device.
            keys, values: of each layer (1, kv heads, room, head_dim), written at `at`.
            strength: what the LoRA's product is multiplied by.

        Returns:
            logits (1, vocabulary) float32, overwritten by the next step.
        """
        from salmonn_core.kernels import place

        room = keys[0].shape[2]
        x = self.table.index_select(0, token)[0]
        for layer, k, v in zip(self.layers, keys, values, strict=True):
            self._product(x, layer.inward, self._projected, norm=layer.heads_in)
            place[(self.heads + 2 * self.groups,)](
                *(self._projected, layer.lora, self.cosine, self.sine, at, self._query, k, v, strength, room),
                HEADS=self.heads,
                GROUPS=self.groups,
                HALF=self.dim // 2,
                RANK=self.rank,
                **_begins(),
            )
            self._attend(at, k, v, room)
            self._product(self._heard, layer.out, x, added=True)
            self._product(x, layer.gate, self._inner, norm=layer.after, other=layer.up)
            self._product(self._inner, layer.down, x, added=True)
        self._product(x, self.head, self._logits, norm=self.last)
        return self._logits[None]

    def read(
        self,
        prompt: Tensor,
        at: Tensor,
        last: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        strength: float,
    ) -> Tensor:
        """Append a prompt.

        Args:
            prompt: (positions, width) embeddings, those behind `last` padding.
            at, last: (1,) the position of the first, and which is the last, on the device.
            keys, values: of each layer (1, kv heads, room, head_dim), written from `at` on, padding too.
            strength: what the LoRA's product is multiplied by.

        Returns:
            logits (1, vocabulary) float32 after the last, overwritten by the next pass.
        """
        x, shape = prompt.clone(), prompt.shape[1:]
        for layer, k, v in zip(self.layers, keys, values, strict=True):
            projected = F.linear(F.rms_norm(x, shape, layer.heads_in, self.eps), layer.inward)
            x.addmm_(self._hear(projected, layer.lora, at, k, v, strength), layer.out.T)
            both = F.linear(F.rms_norm(x, shape, layer.after, self.eps), layer.both)
            x.addmm_(self._gated(both), layer.down.T)
        self._product(x.index_select(0, last)[0], self.head, self._logits, norm=self.last)
        return self._logits[None]

    def _hear(
        self, projected: Tensor, lora: Tensor, at: Tensor, keys: Tensor, values: Tensor, strength: float
    ) -> Tensor:
        """Attention of a prompt, its keys and values put in their place: (positions, heads x head_dim)."""
        from salmonn_core.prompt_kernels import attend_many, place_many

        count, room, parts = len(projected), keys.shape[2], -(-len(projected) // ROWS)
        query = projected.new_empty(self.heads, count, self.dim)
        heard = projected.new_empty(count, self.heads * self.dim)
        place_many[(self.heads + 2 * self.groups, parts)](
            *(projected, lora, self.cosine, self.sine, at, query, keys, values),
            *(strength, count, room, len(self.cosine)),
            HEADS=self.heads,
            GROUPS=self.groups,
            HALF=self.dim // 2,
            RANK=self.rank,
            ROWS=ROWS,
        )
        attend_many[(self.heads, parts)](
            *(query, keys, values, at, heard, self.dim**-0.5, count, room),
            HEADS=self.heads,
            SHARED=self.heads // self.groups,
            DIM=self.dim,
            ROWS=ROWS,
            BLOCK=SEEN_BLOCK,
        )
        return heard

    def _gated(self, both: Tensor) -> Tensor:
        """silu of each row's first half times its second: (positions, inner)."""
        from salmonn_core.prompt_kernels import gate_many

        count, inner = len(both), both.shape[1] // 2
        out = both.new_empty(count, inner)
        gate_many[(count, -(-inner // GATE_BLOCK))](both, out, inner, BLOCK=GATE_BLOCK)
        return out

    def _attend(self, at: Tensor, keys: Tensor, values: Tensor, room: int) -> None:
        from salmonn_core.kernels import attend

        chunks = -(-room // SEEN_BLOCK)
        parts = self._parts_of(1 << (chunks - 1).bit_length())
        attend[(self.heads, chunks)](
            *(self._query, keys, values, at, *parts, self._finished, self._heard, self.dim**-0.5),
            ROOM=room,
            SHARED=self.heads // self.groups,
            DIM=self.dim,
            BLOCK=SEEN_BLOCK,
            CHUNKS=parts[1].shape[1],
            **_begins(),
        )

    def _parts_of(self, chunks: int) -> tuple[Tensor, Tensor, Tensor]:
        """What programs of attention leave for each other: totals, bests and weights of each head and chunk.

        Kept, since a recorded step goes on writing where it was recorded.
        """
        if chunks not in self._parts:
            new = self._projected.new_empty
            heads = self.heads
            self._parts[chunks] = new(heads, chunks, self.dim), new(heads, chunks), new(heads, chunks)
        return self._parts[chunks]

    def _product(
        self,
        x: Tensor,
        weight: Tensor,
        out: Tensor,
        norm: Tensor | None = None,
        other: Tensor | None = None,
        added: bool = False,
    ) -> None:
        from salmonn_core.kernels import product

        rows, width = weight.shape
        tile = TILES.get((rows, width), TILE)
        product[(-(-rows // tile.rows),)](
            *(x, x if norm is None else norm, weight, weight if other is None else other, out, rows, self.eps),
            WIDTH=width,
            NORM=norm is not None,
            GATED=other is not None,
            ADDED=added,
            ROWS=tile.rows,
            BLOCK=tile.block,
            UNROLL=tile.unroll,
            num_warps=tile.warps,
            **_begins(),
        )


def _begins() -> dict[str, bool]:
    """How a kernel is launched after the one before."""
    nvidia = torch.version.cuda is not None and torch.cuda.is_available()
    early = nvidia and torch.cuda.get_device_capability() >= HOPPER
    return {"EARLY": True, "launch_pdl": True} if early else {"EARLY": False}
