"""Packing a Llama with its LoRA into 8-bit integers: see `salmonn_core.int8`, which runs what this makes.

Layout differs from transformers' in two ways that change no number: query and key channels are
interleaved so that the rotary embedding is one complex product, and projections of the same input are one matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.llm import PeftLlm

LEVELS = 255  # of FBGEMM's unsigned activations
FEW_LEVELS = 127  # where more overflow
SMALLEST_SCALE = 6.1e-5  # below which FBGEMM rounds no finer
SMOOTHING = 0.5  # how much of the activations' range moves into the weights
# Text whose activations decide the smoothing; any ordinary text finds the same outlier channels.
CALIBRATION = (
    "The rain had stopped, and somewhere a dog was barking at the bells. What time is it in Paris? "
    "Add milk, two eggs and bread to my list, then play some quiet piano music in the kitchen. "
    '{"device": "lights", "place": null, "time": "half past seven"} Once upon a time there was a small bird.'
)


def supports(config: Any) -> bool:
    """Whether a transformers config is a plain Llama, which is all that is implemented."""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and rope.get("rope_type", "default") == "default"
    )


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    eps: float


@cache
def levels() -> int:
    """How many levels above zero an activation has here.

    Without AVX-512 VNNI, FBGEMM adds pairs of products in 16 bits, and those of 255 levels overflow: tried once.
    """
    most = _prepack(torch.full((1, 64), 127, dtype=torch.int8))
    found = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(torch.full((1, 64), 255.0), 1.0, 0, most)
    return LEVELS if found.item() == 64 * 127 * 255 else FEW_LEVELS


class Matrix(nn.Module):
    """A linear map in int8, one scale an output channel; called, rows of floats, each rounded within its own range.

    FBGEMM finds one range for all rows of a call, so rows are given to it as integers already, and scaled after.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scales = weight.abs().amax(dim=1).clamp_min(1e-9) / 127.0
        integers = (weight / self.scales[:, None]).round()
        self.packed = _prepack(integers.to(torch.int8))
        self.sums = integers.sum(dim=1)
        self.levels, self.smallest = levels(), SMALLEST_SCALE
        self.few, self.side = self.levels < LEVELS, self.levels // 2

    def forward(self, x: Tensor) -> Tensor:
        """Positions of prompts, (n, inputs) float32, to (n, outputs): integers of -127 to 127, or -63 to 63."""
        scale = x.abs().amax(dim=1, keepdim=True).clamp_min(1e-9) / self.side
        return self.product(x / scale, self.side + 1).mul_(scale).mul_(self.scales)

    @torch.jit.export
    def step(self, x: Tensor) -> Tensor:
        """As `forward`, one position of each sequence, and of many what FBGEMM makes of each alone, to the bit.

        One row is its fastest case. Of more, these are the integers that it would take, and the order in which it
        would scale: an answer does not depend on its neighbours.
        """
        if x.shape[0] == 1:
            return torch.ops.quantized.linear_dynamic(x, self.packed, self.few).mul_(self.scales)
        low = x.amin(dim=1, keepdim=True).clamp_max(0.0).double()
        high = x.amax(dim=1, keepdim=True).clamp_min(0.0).double()
        exact = ((high - low) / self.levels).clamp_min(self.smallest)
        scale, zero = exact.float(), (low / exact).round_()
        # FBGEMM rounds a fused product and sum: in float64 both are exact. The product rounds to integers up to LEVELS.
        integers = x.double().mul_(scale.reciprocal()).sub_(zero).float()
        if self.few:
            integers.round_().clamp_(0.0, self.levels)
        return self.product(integers, 0).addcmul_(zero.float(), self.sums).mul_(scale).mul_(self.scales)

    @torch.jit.export
    def product(self, integers: Tensor, zero: int) -> Tensor:
        """Rows that span at most `levels`, as floats that are rounded to integers, times the matrix of integers."""
        return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(integers, 1.0, zero, self.packed)


class Layer(nn.Module):
    """One layer: packed matrices (inputs to outputs) and smoothed norm weights; called, one position of each sequence.

    Written for TorchScript, which halves what 700 small operations a token cost beside the matrices.
    """

    def __init__(self, matrices: Sequence[Tensor], norms: tuple[Tensor, Tensor], shape: Shape) -> None:
        """Args: matrices: qkv, out, gate_up, down; norms: before attention and before the feed-forward."""
        super().__init__()
        self.qkv, self.out, self.gate_up, self.down = map(Matrix, matrices)
        self.attention_norm, self.feed_forward_norm = norms
        self.kv_heads, self.head_dim = shape.kv_heads, shape.head_dim
        self.group = shape.heads // shape.kv_heads
        self.turned = (shape.heads + shape.kv_heads) * shape.head_dim
        self.scale, self.mean = shape.head_dim**-0.5, 1.0 / shape.width
        self.eps = torch.tensor([[shape.eps]])  # not a number, which costs a conversion at each use

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, rotation: Tensor, at: Tensor, hidden: Tensor) -> Tensor:
        """(n, width), one position each of n sequences, to the same.

        Args:
            keys, values: (n, kv heads, room, head_dim).
            rotation: (n, 1, head_dim / 2) complex.
            at: (n x kv heads,) where keys and values go in their flattened caches.
            hidden: (n x kv heads, 1, positions), added to the scores: -inf after a sequence's own end.
        """
        n, positions = x.shape[0], hidden.shape[2]
        y = self.qkv.step(x * self.attention_norm).mul_(self.root(x))
        q, k, v = self.split(y, rotation)
        keys.view(-1, self.head_dim).index_copy_(0, at, k.reshape(-1, self.head_dim))
        values.view(-1, self.head_dim).index_copy_(0, at, v.reshape(-1, self.head_dim))
        # Query heads that share a key stand where positions would.
        queries = q.reshape(n * self.kv_heads, self.group, self.head_dim)
        heard_keys = keys.view(n * self.kv_heads, -1, self.head_dim)[:, :positions]
        heard_values = values.view(n * self.kv_heads, -1, self.head_dim)[:, :positions]
        shares = torch.baddbmm(hidden, queries, heard_keys.transpose(1, 2), alpha=self.scale).softmax(-1)
        x = x + self.out.step(torch.bmm(shares, heard_values).view(n, -1))
        gate, up = self.gate_up.step(x * self.feed_forward_norm).mul_(self.root(x)).chunk(2, dim=-1)
        return x + self.down.step(F.silu(gate).mul_(up))

    @torch.jit.export
    def split(self, y: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The fused projection (n, channels) as rotated queries, rotated keys and values, (n, heads, head_dim)."""
        pairs = torch.view_as_complex(y[:, : self.turned].reshape(len(y), -1, self.head_dim // 2, 2)) * rotation
        both = torch.view_as_real(pairs).view(len(y), -1, self.head_dim)
        values = y[:, self.turned :].view(len(y), self.kv_heads, self.head_dim)
        return both[:, : -self.kv_heads], both[:, -self.kv_heads :], values

    def root(self, x: Tensor) -> Tensor:
        """1 / RMS of each row, (n, 1). A matrix does not mind being scaled after, so the norm costs a pass less."""
        return torch.rsqrt(torch.add(self.eps, (x * x).sum(dim=1, keepdim=True), alpha=self.mean))


class Packed(nn.Module):
    """A whole model at one LoRA scale; called, one position of each sequence."""

    __jit_unused_properties__ = ("stack",)

    def __init__(self, layers: list[Layer], norm: Tensor, head: Tensor) -> None:
        super().__init__()
        self.layers, self.norm, self.head = nn.ModuleList(layers), norm, Matrix(head)
        self.eps = float(layers[0].eps)

    @property
    def stack(self) -> list[Layer]:
        """The layers as what they are."""
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, rotation: Tensor, at: Tensor, hidden: Tensor) -> Tensor:
        """(n, width) to logits (n, vocabulary); keys, values: (layers, n, ...), and the rest as of `Layer`."""
        for index, layer in enumerate(self.layers):
            x = layer(x, keys[index], values[index], rotation, at, hidden)
        return self.logits(x)

    @torch.jit.export
    def logits(self, x: Tensor) -> Tensor:
        """Last hidden states (n, width) to (n, vocabulary)."""
        return self.head.step(F.rms_norm(x, [x.shape[1]], self.norm, self.eps))


def shape_of(config: Any) -> Shape:
    """Sizes from a transformers config."""
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    return Shape(
        layers=int(config.num_hidden_layers),
        heads=heads,
        kv_heads=int(config.num_key_value_heads),
        head_dim=int(getattr(config, "head_dim", None) or width // heads),
        width=width,
        eps=float(config.rms_norm_eps),
    )


@torch.inference_mode()
def pack(source: PeftLlm, lora_scale: float, peaks: list[dict[str, Tensor]]) -> Packed:
    """The LLM in integers, its LoRA merged at a scale.

    Args:
        peaks: of `activation_peaks`.
    """
    source.set_lora_scale(lora_scale)
    model = source.model.get_base_model()
    shape = shape_of(model.config)
    layers = [_pack_layer(layer, peak, shape) for layer, peak in zip(model.model.layers, peaks, strict=True)]
    return Packed(layers, model.model.norm.weight.float(), model.lm_head.weight.float()).eval()


def _pack_layer(layer: Any, peaks: dict[str, Tensor], shape: Shape) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    q, k = (
        _interleave(_merged(module), heads, shape.head_dim)
        for module, heads in ((attention.q_proj, shape.heads), (attention.k_proj, shape.kv_heads))
    )
    v, out, gate, up, down = map(
        _merged, (attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    )
    qkv, gate_up = torch.cat((q, k, v)), torch.cat((gate, up))
    # What an input is divided by, the matrix behind it is multiplied by: norms, values and the up-projection
    # take the division into their own weights, so that it costs nothing.
    by_qkv, by_gate_up = _smoothing(peaks["qkv"], qkv), _smoothing(peaks["gate_up"], gate_up)
    by_out, by_down = _shared(_smoothing(peaks["out"], out), shape), _smoothing(peaks["down"], down)
    qkv, gate_up, out, down = qkv * by_qkv, gate_up * by_gate_up, out * by_out, down * by_down
    gate_up[len(gate) :] /= by_down[:, None]
    values = by_out.view(shape.kv_heads, -1, shape.head_dim)[:, 0].reshape(-1, 1)
    qkv[-len(v) :] /= values
    norms = (
        layer.input_layernorm.weight.float() / by_qkv,
        layer.post_attention_layernorm.weight.float() / by_gate_up,
    )
    return Layer((qkv, out, gate_up, down), norms, shape)


def _shared(by: Tensor, shape: Shape) -> Tensor:
    """One factor a value channel: query heads of a group hear the same values."""
    grouped = by.view(shape.kv_heads, -1, shape.head_dim)
    return grouped.amax(dim=1, keepdim=True).expand_as(grouped).reshape(-1)


@torch.inference_mode()
def activation_peaks(source: PeftLlm, tokenizer: Any) -> list[dict[str, Tensor]]:
    """Largest magnitude of each input channel of each layer's projections, on the calibration text."""
    layers = source.model.get_base_model().model.layers
    seen: list[dict[str, Tensor]] = [{} for _ in layers]
    hooks = []

    def watch(index: int, name: str, module: Any) -> None:
        def look(_: Any, inputs: tuple[Tensor, ...]) -> None:
            seen[index][name] = inputs[0].float().abs().amax(dim=(0, 1))

        hooks.append(module.register_forward_pre_hook(look))

    for index, layer in enumerate(layers):
        watch(index, "qkv", layer.self_attn.q_proj)
        watch(index, "out", layer.self_attn.o_proj)
        watch(index, "gate_up", layer.mlp.gate_proj)
        watch(index, "down", layer.mlp.down_proj)
    source.prefill([source.embed(torch.tensor(tokenizer(CALIBRATION, add_special_tokens=False).input_ids))], 1.0)
    for hook in hooks:
        hook.remove()
    return seen


def _smoothing(peaks: Tensor, weight: Tensor) -> Tensor:
    """(inputs,) factors that even out the ranges of activations and weights."""
    activations, weights = peaks.clamp_min(1e-5), weight.abs().amax(dim=0).clamp_min(1e-5)
    return (activations**SMOOTHING / weights ** (1 - SMOOTHING)).clamp_min(1e-3)


def _merged(module: Any) -> Tensor:
    """A linear's weight in float32 with its LoRA, if it has one, at the current scale."""
    if not hasattr(module, "lora_A"):
        return module.weight.float()
    update = module.lora_B["default"].weight.float() @ module.lora_A["default"].weight.float()
    return module.base_layer.weight.float() + module.scaling["default"] * update


def _interleave(weight: Tensor, heads: int, head_dim: int) -> Tensor:
    """Rows from (first half, second half) to (real, imaginary) pairs."""
    return weight.view(heads, 2, head_dim // 2, -1).transpose(1, 2).reshape(heads * head_dim, -1)


def _prepack(integers: Tensor) -> Any:
    """FBGEMM's packed form of (outputs, inputs) int8; the scales stay outside."""
    unit = torch.ones(len(integers), dtype=torch.double)
    with warnings.catch_warnings():
        # torch means to drop quantised tensors; pyproject pins versions that have them.
        warnings.simplefilter("ignore", UserWarning)
        tensor = torch._make_per_channel_quantized_tensor(integers, unit, torch.zeros_like(unit, dtype=torch.long), 0)
    return torch.ops.quantized.linear_prepack(tensor, None)
