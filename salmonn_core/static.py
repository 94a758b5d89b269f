"""Greedy decoding on a GPU at the speed of its memory: one step of fixed shapes, recorded once and replayed.

A token of a large LLM costs what its weights cost to read; launching a thousand kernels from Python costs more.
So one sequence's keys and values stand in buffers that never move, and the step over them is captured as a CUDA graph.
Prompts, and batches, go through `PeftLlm` as they are. On a CPU the same step runs uncaptured, which is how
its numbers are tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from salmonn_core.llm import PeftLlm, PeftState

ROOM = 512  # positions by which the buffers grow
WARM_UPS = 3  # before a capture, as torch asks
KEPT_GRAPHS = 4  # LoRA scales that stay recorded


class Slot:
    """Buffers of one sequence and the step over them.

    Attributes:
        keys, values: for each layer (1, kv heads, room, head_dim).
        token: (1,) the id to append.
        at: (1,) its position.
    """

    def __init__(self, llm: Any, room: int) -> None:
        """Args: llm: transformers' LlamaForCausalLM, its projections perhaps peft's."""
        self._llm, self.room = llm, room
        config, weight = llm.config, llm.get_input_embeddings().weight
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (1, config.num_key_value_heads, room, head_dim)
        self.keys = [weight.new_zeros(shape) for _ in llm.model.layers]
        self.values = [weight.new_zeros(shape) for _ in llm.model.layers]
        self.token = torch.zeros(1, dtype=torch.long, device=weight.device)
        self.at = torch.zeros(1, dtype=torch.long, device=weight.device)
        self._places = torch.arange(room, device=weight.device)
        self._head_dim = head_dim

    def step(self) -> Tensor:
        """Append `token` at `at`: logits (1, vocabulary) float32. Nothing here depends on a value, only on shapes."""
        model = self._llm.model
        x = model.embed_tokens(self.token)[None]
        rotation = model.rotary_emb(x, self.at[None])
        seen = (self._places <= self.at)[None, None, None]
        for layer, keys, values in zip(model.layers, self.keys, self.values, strict=True):
            x = x + self._attend(layer.self_attn, layer.input_layernorm(x), rotation, keys, values, seen)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return cast(Tensor, self._llm.lm_head(model.norm(x))[0].float())

    def _attend(
        self, attention: Any, x: Tensor, rotation: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, seen: Tensor
    ) -> Tensor:
        """One position, (1, 1, width), over the buffers."""
        q, k, v = (
            project(x).view(1, 1, -1, self._head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *rotation)
        keys.index_copy_(2, self.at, k)
        values.index_copy_(2, self.at, v)
        heard = F.scaled_dot_product_attention(q, keys, values, attn_mask=seen, enable_gqa=True)
        return cast(Tensor, attention.o_proj(heard.transpose(1, 2).reshape(1, 1, -1)))


class StaticLlama(PeftLlm):
    """`PeftLlm` for plain Llamas, whose step of a single sequence is recorded; a batch's is as before.

    One slot serves whichever sequence is at its turn; the one that it is taken from goes on from its own cache.
    """

    def __init__(self, model: Any, trained_scale: float) -> None:
        super().__init__(model, trained_scale)
        self._slot: Slot | None = None
        self._owner: PeftState | None = None
        self._used = 0  # positions of the owner that stand in the slot
        self._steps: dict[float, Callable[[], Tensor]] = {}  # by LoRA scale, over the present slot

    def step(self, state: PeftState, tokens: Tensor, lora_scale: float) -> tuple[PeftState, Tensor]:
        if len(tokens) > 1 or state.padded:
            return super().step(state, tokens, lora_scale)
        slot = self._take(state)
        slot.token.copy_(tokens)
        slot.at.fill_(self._used)
        self._used += 1
        return state, self._step_at(slot, lora_scale)().clone()

    def pick(self, state: PeftState, rows: list[int]) -> PeftState:
        if state is self._owner:
            self._give_back()
        return super().pick(state, rows)

    def _take(self, state: PeftState) -> Slot:
        """The slot with a sequence in it and room for one more position."""
        if state is not self._owner:
            self._give_back()
            self._owner, self._used = state, state.mask.shape[1]
        elif self._slot is not None and self._used < self._slot.room:
            return self._slot
        else:
            self._write_back()
        if self._slot is None or self._used >= self._slot.room:
            self._slot = None  # frees the old buffers before the new ones are made
            self._steps.clear()
            self._slot = Slot(self.model.get_base_model(), ROOM * math.ceil((self._used + 1) / ROOM))
        for layer, keys, values in zip(state.cache.layers, self._slot.keys, self._slot.values, strict=True):
            keys[:, :, : self._used].copy_(layer.keys)
            values[:, :, : self._used].copy_(layer.values)
        return self._slot

    def _write_back(self) -> None:
        """Give the owner's own cache what was appended in the slot."""
        assert self._owner is not None
        assert self._slot is not None
        for layer, keys, values in zip(self._owner.cache.layers, self._slot.keys, self._slot.values, strict=True):
            layer.keys, layer.values = keys[:, :, : self._used].clone(), values[:, :, : self._used].clone()
        self._owner.mask = self._owner.mask.new_ones(1, self._used)

    def _give_back(self) -> None:
        """Another sequence needs the slot: an answer that was not over goes on from its own cache later."""
        if self._owner is not None and self._slot is not None:
            self._write_back()
        self._owner = None

    def _step_at(self, slot: Slot, lora_scale: float) -> Callable[[], Tensor]:
        if lora_scale not in self._steps:
            if len(self._steps) == KEPT_GRAPHS:
                self._steps.pop(next(iter(self._steps)))
            self.set_lora_scale(lora_scale)
            self._steps[lora_scale] = (
                recorded(slot.step) if self.device.type == "cuda" else self._live(slot, lora_scale)
            )
        return self._steps[lora_scale]

    def _live(self, slot: Slot, lora_scale: float) -> Callable[[], Tensor]:
        def run() -> Tensor:
            self.set_lora_scale(lora_scale)
            return slot.step()

        return run


def recorded(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A step as a CUDA graph; what it returns is overwritten by the next call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay
