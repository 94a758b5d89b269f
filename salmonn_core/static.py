"""A single sequence on a GPU at the speed of its memory: passes of fixed shapes, recorded once and replayed.

A token of a large LLM costs what its weights cost to read; launching a thousand kernels from Python costs more, for
a token and for a prompt. So one sequence's keys and values stand in buffers that never move, and passes over them
are captured as CUDA graphs: one for a token and one for each rounded length of a prompt, by the kernels of
`salmonn_core.fused` where they can. Batches and long prompts go through `PeftLlm` as they are.

Nor does the GPU wait for Python to choose a token: after a step the next one is launched at once, for the token that
greedy decoding takes. Where another one is taken, its step is done over that.

On a CPU the same passes run uncaptured and in turn, which is how their numbers are tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from salmonn_core.ahead import Aside, Begun
from salmonn_core.fused import Fused, can_fuse
from salmonn_core.graphs import Kept, recorded
from salmonn_core.llm import PeftLlm, PeftState

ROOM = 512  # positions by which the buffers grow
KEPT_GRAPHS = 12  # lengths at LoRA scales that stay recorded
ROUNDED = 32  # a prompt is read as if it were as long as the next multiple
LONGEST = 256  # longer prompts are bound by arithmetic, which no graph saves
WRONG_GUESSES = 2  # of a sequence, whose tokens are drawn or follow a pattern: from then on nothing is begun for it


class Slot:
    """Buffers of one sequence and the passes over them.

    Attributes:
        keys, values: for each layer (1, kv heads, room, head_dim), all of which are `cells`.
        token: (1,) the id to append.
        at: (1,) its position, or that of a prompt's first embedding.
        last: (1,) which embedding of a prompt is its last, so that those behind it are padding.
    """

    def __init__(self, llm: Any, room: int) -> None:
        """Args: llm: transformers' LlamaForCausalLM, its projections perhaps peft's."""
        self._llm, self.room = llm, room
        config, weight = llm.config, llm.get_input_embeddings().weight
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.cells = weight.new_zeros(2, len(llm.model.layers), 1, config.num_key_value_heads, room, head_dim)
        self.keys, self.values = (list(each) for each in self.cells)
        self.token, self.at, self.last = (torch.zeros(1, dtype=torch.long, device=weight.device) for _ in range(3))
        self._places = torch.arange(room, device=weight.device)
        self._head_dim = head_dim
        self._prompts: dict[int, Tensor] = {}

    def prompt(self, rounded: int) -> Tensor:
        """(rounded, width): where the embeddings of a prompt of that rounded length are written."""
        if rounded not in self._prompts:
            width = self._llm.config.hidden_size
            self._prompts[rounded] = self.keys[0].new_zeros(rounded, width)
        return self._prompts[rounded]

    def step(self) -> Tensor:
        """Append `token` at `at`: logits (1, vocabulary) float32. Nothing here depends on a value, only on shapes."""
        return self._pass(self._llm.model.embed_tokens(self.token)[None], self.at)

    def read(self, rounded: int) -> Tensor:
        """Append the embeddings in `prompt`, of which those after `last` are overwritten by what comes next."""
        positions = self.at + self._places[:rounded]
        return self._pass(self.prompt(rounded)[None], positions, self.last)

    def _pass(self, x: Tensor, positions: Tensor, last: Tensor | None = None) -> Tensor:
        model = self._llm.model
        rotation = model.rotary_emb(x, positions[None])
        seen = (self._places[None] <= positions[:, None])[None, None]
        for layer, keys, values in zip(model.layers, self.keys, self.values, strict=True):
            x = x + self._attend(layer.self_attn, layer.input_layernorm(x), rotation, keys, values, positions, seen)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        wanted = x[0] if last is None else x[0].index_select(0, last)
        return cast(Tensor, self._llm.lm_head(model.norm(wanted)).float())

    def _attend(
        self,
        attention: Any,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
        positions: Tensor,
        seen: Tensor,
    ) -> Tensor:
        """Some positions, (1, positions, width), over the buffers."""
        q, k, v = (
            project(x).view(1, len(positions), -1, self._head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *rotation)
        keys.index_copy_(2, positions, k)
        values.index_copy_(2, positions, v)
        heard = F.scaled_dot_product_attention(q, keys, values, attn_mask=seen, enable_gqa=True)
        return cast(Tensor, attention.o_proj(heard.transpose(1, 2).reshape(1, len(positions), -1)))


@dataclass
class SlotState(PeftState):
    """A sequence that may stand in the slot: its cache is brought up to date when somebody wants it.

    Attributes:
        wrong: how many steps were begun for a token that was not taken.
    """

    engine: StaticLlama | None = None
    wrong: int = 0

    def copy(self) -> PeftState:
        if self.engine is not None:
            self.engine.settle(self)
        return super().copy()

    def one(self, row: int) -> PeftState:
        return self

    def cut(self, positions: int) -> PeftState:
        part = self.engine.standing(self, positions) if self.engine is not None else None
        return part if part is not None else super().cut(positions)


class StaticLlama(PeftLlm):
    """`PeftLlm` for plain Llamas, whose passes over a single sequence are recorded; a batch's are as before.

    One slot serves whichever sequence is at its turn; the one that it is taken from goes on from its own cache.
    """

    def __init__(self, model: Any, trained_scale: float) -> None:
        super().__init__(model, trained_scale)
        self._slot: Slot | None = None
        self._owner: Callable[[], PeftState | None] = lambda: None  # a weak reference: most answers are over by then
        self._used = 0  # positions of the owner that stand in the slot
        self._passes: Kept[tuple[int, float], Callable[[], Tensor]] = Kept(KEPT_GRAPHS)  # by length and LoRA scale
        base = model.get_base_model()
        cuda = self.device.type == "cuda"
        self._fused = Fused(base) if cuda and can_fuse(base) else None
        self._known = int(self.model.config.max_position_embeddings)  # positions whose rotation the kernels have
        # What is recorded here shares one workspace of cuBLAS, so its products must not run beside each other.
        self._guesses = self._fused is not None or not cuda
        self._aside = Aside(self.device)
        self._begun: Begun | None = None  # the owner's next step

    def prefill(
        self, prompts: list[Tensor], lora_scale: float, prefixes: Sequence[PeftState | None] = ()
    ) -> tuple[PeftState, Tensor]:
        for prefix in prefixes:
            if prefix is not None:
                self.settle(prefix)  # one that was only just read stands in the slot, and its own cache is empty
        (prompt, *others), (prefix, *_) = prompts, prefixes or (None,)
        rounded = ROUNDED * math.ceil(len(prompt) / ROUNDED)
        before = 0 if prefix is None else prefix.mask.shape[1]
        if others or rounded > LONGEST or before + len(prompt) > self._known:
            return super().prefill(prompts, lora_scale, prefixes)
        state = SlotState(DynamicCache(config=self.model.config), self._ones(before), engine=self)
        slot = self._take(state, rounded, prefix)
        slot.prompt(rounded)[: len(prompt)].copy_(prompt)
        slot.at.fill_(before)
        slot.last.fill_(len(prompt) - 1)
        self._used = before + len(prompt)
        return state, self._pass(rounded, lora_scale)().clone()

    def step(self, state: PeftState, tokens: Tensor, lora_scale: float) -> tuple[PeftState, Tensor]:
        if len(tokens) > 1 or state.padded or self._length(state) >= self._known:
            self.settle(state)
            return super().step(state, tokens, lora_scale)
        begun = self._begun
        if begun is not None and state is self._owner() and begun.is_for(int(tokens), lora_scale):
            logits = begun.logits
        else:
            self._take(state, 1).token.copy_(tokens)
            self._aside.follow()
            logits = self._append(lora_scale)
        self._used += 1
        done = self._aside.mark()
        self._begun = self._begin(logits, lora_scale) if self._may_guess(state) else None
        return state, self._aside.hand_over(done, logits)

    def _append(self, lora_scale: float) -> Tensor:
        """The step for the slot's token, launched aside: logits (1, vocabulary)."""
        assert self._slot is not None
        with self._aside.here():
            self._slot.at.fill_(self._used)
            return self._pass(1, lora_scale)().clone()

    def _may_guess(self, state: PeftState) -> bool:
        assert self._slot is not None
        room = min(self._slot.room, self._known)
        return self._guesses and isinstance(state, SlotState) and state.wrong < WRONG_GUESSES and self._used < room

    def _length(self, state: PeftState) -> int:
        return self._used if state is self._owner() else state.mask.shape[1]

    def _begin(self, logits: Tensor, lora_scale: float) -> Begun:
        """The step after the one of these logits, which counts as none of the sequence's until it is asked for."""
        assert self._slot is not None
        with self._aside.here():
            torch.argmax(logits, dim=-1, out=self._slot.token)
        chosen = self._aside.mark()
        after = self._append(lora_scale)
        return Begun(after, *self._aside.to_host(chosen, self._slot.token), lora_scale)

    def pick(self, state: PeftState, rows: list[int]) -> PeftState:
        self.settle(state)
        return super().pick(state, rows)

    def settle(self, state: PeftState) -> None:
        """Bring a sequence's own cache up to date, if it stands in the slot, and let it go."""
        if state is self._owner():
            self._give_back()

    def standing(self, state: PeftState, positions: int) -> PeftState | None:
        """The first positions of a sequence that stands in the slot; None for one that does not."""
        if state is not self._owner() or self._slot is None:
            return None
        cache = DynamicCache(config=self.model.config)
        part = self._slot.cells[..., :positions, :].clone()  # at once: a prompt's first token waits for it
        for layer, keys, values in zip(cache.layers, *part, strict=True):
            layer.update(keys[:, :, :0], values[:, :, :0])
            layer.keys, layer.values = keys, values  # which `update` would copy once more
        return PeftState(cache, self._ones(positions))

    def _ones(self, positions: int) -> Tensor:
        return torch.ones(1, positions, dtype=torch.long, device=self.device)

    def _take(self, state: PeftState, more: int, prefix: PeftState | None = None) -> Slot:
        """The slot with a sequence in it, or the one that it is to begin with, and room for more positions."""
        self._drop_guess()
        if state is not self._owner():
            self._give_back()
            self._owner, self._used = ref(state), state.mask.shape[1]
        elif self._slot is not None and self._used + more <= self._slot.room:
            return self._slot
        else:
            self._write_back()
        if self._slot is None or self._used + more > self._slot.room:
            self._aside.finish()
            self._slot = None  # frees the old buffers before the new ones are made
            self._passes.clear()
            self._slot = Slot(self.model.get_base_model(), ROOM * math.ceil((self._used + more) / ROOM))
        source = prefix or state
        if self._used:
            for layer, keys, values in zip(source.cache.layers, self._slot.keys, self._slot.values, strict=True):
                keys[:, :, : self._used].copy_(layer.keys)
                values[:, :, : self._used].copy_(layer.values)
        return self._slot

    def _drop_guess(self) -> None:
        """The slot is wanted for something else than what was begun in it."""
        owner = self._owner()
        if self._begun is not None and isinstance(owner, SlotState):
            owner.wrong += 1
        self._begun = None
        self._aside.wait()

    def _write_back(self) -> None:
        """Give the owner's own cache what was appended in the slot."""
        owner = self._owner()
        if owner is not None and (part := self.standing(owner, self._used)) is not None:
            owner.cache, owner.mask = part.cache, part.mask

    def _give_back(self) -> None:
        """Another sequence needs the slot: an answer that is not over goes on from its own cache later."""
        self._write_back()
        self._owner = lambda: None

    def _pass(self, length: int, lora_scale: float) -> Callable[[], Tensor]:
        """The pass over the present slot that appends so many positions."""
        return self._passes.of((length, lora_scale), lambda: self._recorded(length, lora_scale))

    def _recorded(self, length: int, lora_scale: float) -> Callable[[], Tensor]:
        self.set_lora_scale(lora_scale)
        return recorded(self._unrecorded(length, lora_scale), self.device)

    def _unrecorded(self, length: int, lora_scale: float) -> Callable[[], Tensor]:
        assert self._slot is not None
        slot, fused = self._slot, self._fused
        strength = self._trained_scale * lora_scale
        if fused is not None and length == 1:
            return lambda: fused.step(slot.token, slot.at, slot.keys, slot.values, strength)
        if fused is not None:
            prompt = slot.prompt(length)
            return lambda: fused.read(prompt, slot.at, slot.last, slot.keys, slot.values, strength)

        def run() -> Tensor:
            self.set_lora_scale(lora_scale)
            return slot.step() if length == 1 else slot.read(length)

        return run
