"""The LLM behind the audio: what generation needs of one, and transformers' own with peft's LoRA.

Three engines share this contract. `PeftLlm` runs any causal LM of transformers on any device, in float32,
bfloat16 or quantised by bitsandbytes, and is the one whose numbers agree with the reference. For plain Llamas
`salmonn_core.int8.Int8Llama` is several times faster on a CPU, and `salmonn_core.static.StaticLlama` on a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache


class State(Protocol):
    """Where some sequences stand: their KV cache. Feeding it changes it."""

    def one(self, row: int) -> Self:
        """The state of one of the sequences, to be cut or to stand before a prompt, before anything is fed."""
        ...

    def cut(self, positions: int) -> Self:
        """A copy of the first positions of one sequence."""
        ...


def gaps_filled(sources: Sequence[int]) -> list[int]:
    """Of sequences that go on from these rows, several perhaps from one: which takes each row, so that fewest move."""
    rows: list[int | None] = [None] * len(sources)
    moving = []
    for index, source in enumerate(sources):
        if source < len(rows) and rows[source] is None:
            rows[source] = index
        else:
            moving.append(index)
    fill = iter(moving)
    return [next(fill) if index is None else index for index in rows]


class Llm(Protocol):
    """A language model that continues embeddings."""

    @property
    def dtype(self) -> torch.dtype: ...

    def embed(self, ids: Tensor) -> Tensor:
        """(n,) token ids to (n, width)."""
        ...

    def prefill(self, prompts: list[Tensor], lora_scale: float, prefixes: Sequence[Any] = ()) -> tuple[Any, Tensor]:
        """Read prompts, each (positions, width).

        Args:
            prefixes: for each prompt the state of one sequence that stands before it, or None; none at all by default.

        Returns:
            the state of all sequences, and the logits after each, (prompts, vocabulary) float32.
        """
        ...

    def pick(self, state: Any, rows: list[int]) -> Any:
        """The state of some of the sequences, in any order, also several times; the old one is used up.

        Those that stay in their row cost nothing.
        """
        ...

    def step(self, state: Any, tokens: Tensor, lora_scale: float) -> tuple[Any, Tensor]:
        """Append one token id to each sequence, (sequences,); the logits after it as in `prefill`."""
        ...


@dataclass
class PeftState:
    """transformers' cache of left-padded sequences, and which of its positions are real."""

    cache: Any
    mask: Tensor  # (sequences, positions), 1 where there is a token
    padded: bool = False  # whether any is 0: known from the lengths, so that no GPU has to be waited for

    def copy(self) -> PeftState:
        return PeftState(copy.deepcopy(self.cache), self.mask.clone(), self.padded)

    def one(self, row: int) -> PeftState:
        there = self.mask[row].bool()
        cache = DynamicCache()
        for index, layer in enumerate(self.cache.layers):
            cache.update(layer.keys[row : row + 1, :, there], layer.values[row : row + 1, :, there], index)
        return PeftState(cache, self.mask[row : row + 1, there])

    def cut(self, positions: int) -> PeftState:
        state = self.copy()
        if positions < state.mask.shape[1]:
            state.cache.crop(positions - state.mask.shape[1])  # a negative number is how many to drop
        return replace(state, mask=state.mask[:, :positions])


class PeftLlm:
    """A causal LM of transformers wrapped by peft."""

    def __init__(self, model: Any, trained_scale: float) -> None:
        """Args: model: of `peft.get_peft_model`; trained_scale: LoRA alpha / rank."""
        self.model, self._trained_scale = model, trained_scale
        self._lora = [module for module in model.modules() if hasattr(module, "scaling") and hasattr(module, "lora_A")]
        self._table = model.get_input_embeddings()

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self._table.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        return cast(torch.dtype, self._table.weight.dtype)

    def embed(self, ids: Tensor) -> Tensor:
        # CUDA has read the ids when this returns, and is not waited for; Apple's may read them when they are gone.
        return cast(Tensor, self._table(ids.to(self.device, non_blocking=self.device.type == "cuda")))

    def pick(self, state: PeftState, rows: list[int]) -> PeftState:
        state.cache.batch_select_indices(torch.tensor(rows, device=self.device))
        return replace(state, mask=state.mask[rows])

    def set_lora_scale(self, scale: float) -> None:
        """The test-time discount (paper, section 4.3): the trained strength times `scale`."""
        for module in self._lora:
            module.scaling["default"] = self._trained_scale * scale

    def prefill(
        self, prompts: list[Tensor], lora_scale: float, prefixes: Sequence[PeftState | None] = ()
    ) -> tuple[PeftState, Tensor]:
        embeds = pad_sequence([p.to(self.dtype) for p in prompts], batch_first=True, padding_side="left")
        mask = pad_sequence(
            [torch.ones(len(p), dtype=torch.long) for p in prompts], batch_first=True, padding_side="left"
        )
        lengths = {0 if prefix is None else prefix.mask.shape[1] for prefix in prefixes or [None]}
        state = self._side_by_side(prefixes, max(lengths))
        state.mask = torch.cat((state.mask.expand(len(prompts), -1), mask.to(self.device)), dim=1)
        state.padded = len(lengths) > 1 or not bool(mask.all())  # still on the host
        return self._forward(state, embeds, mask.shape[1], lora_scale)

    def _side_by_side(self, prefixes: Sequence[PeftState | None], positions: int) -> PeftState:
        """A copy of single sequences as a batch, padded on the left to so many positions."""
        state = PeftState(DynamicCache(config=self.model.config), torch.zeros(1, 0, dtype=torch.long).to(self.device))
        if not positions:
            return state
        model = next(prefix for prefix in prefixes if prefix is not None)
        for index, layer in enumerate(model.cache.layers):
            shape = len(prefixes), layer.keys.shape[1], positions, layer.keys.shape[3]
            keys, values = layer.keys.new_zeros(shape), layer.values.new_zeros(shape)
            for row, prefix in enumerate(prefixes):
                if prefix is not None:
                    own, at = prefix.cache.layers[index], positions - prefix.mask.shape[1]
                    keys[row, :, at:], values[row, :, at:] = own.keys[0], own.values[0]
            state.cache.update(keys, values, index)
        used = torch.tensor([0 if prefix is None else prefix.mask.shape[1] for prefix in prefixes], device=self.device)
        state.mask = (torch.arange(positions, device=self.device) >= positions - used[:, None]).long()
        return state

    def step(self, state: PeftState, tokens: Tensor, lora_scale: float) -> tuple[PeftState, Tensor]:
        more = torch.ones(len(tokens), 1, dtype=torch.long, device=self.device)
        state.mask = torch.cat((state.mask, more), dim=1)
        return self._forward(state, self.embed(tokens)[:, None], 1, lora_scale)

    def logits(self, prompt: Tensor, lora_scale: float) -> Tensor:
        """Logits after every position of one prompt: (positions, width) to (positions, vocabulary) float32."""
        self.set_lora_scale(lora_scale)
        return cast(Tensor, self.model(inputs_embeds=prompt[None].to(self.dtype)).logits[0].float())

    def _forward(self, state: PeftState, embeds: Tensor, new: int, lora_scale: float) -> tuple[PeftState, Tensor]:
        self.set_lora_scale(lora_scale)
        # Padding has no position: a sequence's first token is at 0 however long its neighbours are.
        positions = (state.mask.cumsum(dim=1) - 1).clamp_min(0)[:, -new:]
        mask = state.mask if state.padded else None
        out = self.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            cache=state.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return state, out.logits[:, -1].float()
