"""The BEATs encoder: audio tokens of 16x16 log-mel patches through a gated relative-position transformer.

Written from the paper (Chen et al. 2022, arXiv 2212.09058) and the numbers in the golden set. Names of
parameters are those of the published checkpoints, so that they load without a mapping.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.config import BeatsConfig
from salmonn_core.fbank import MEL_BINS, beats_fbank

HALVES = (torch.bfloat16, torch.float16)
AT_ONCE = 512  # positions whose windows are written out for a product: 100 MB in half precision


def relative_position_bucket(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """T5-style bidirectional buckets of key minus query; positive distances take the upper half.

    Args:
        distance: integers of any shape.

    Returns:
        int64 of the same shape, in [0, num_buckets).
    """
    half = num_buckets // 2
    exact = half // 2
    size = distance.abs()
    # float32 on purpose: the published models were trained with buckets computed so.
    ratio = torch.log(size.clamp_min(1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (half - exact)).long()).clamp_max(half - 1)
    return (distance > 0).long() * half + torch.where(size < exact, size, far)


class GatedSelfAttention(nn.Module):
    """Multi-head self-attention whose relative-position bias is gated by the query (GRU style)."""

    def __init__(self, config: BeatsConfig, has_bias_table: bool) -> None:
        super().__init__()
        width, heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.heads, self.head_dim = heads, width // heads
        self.num_buckets, self.max_distance = config.num_buckets, config.max_distance
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.grep_linear = nn.Linear(self.head_dim, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))
        # One table serves all layers; only the first layer owns it.
        if has_bias_table:
            self.relative_attention_bias = nn.Embedding(config.num_buckets, heads)

    def position_bias(self, length: int) -> Tensor:
        """(heads, length, length) bias from the table, before the gate."""
        at = torch.arange(length, device=self.relative_attention_bias.weight.device)
        bucket = relative_position_bucket(at[None, :] - at[:, None], self.num_buckets, self.max_distance)
        return cast(Tensor, self.relative_attention_bias(bucket)).permute(2, 0, 1)

    def _gate(self, query: Tensor) -> Tensor:
        """(batch, heads, length, 1) from the unscaled query (batch, heads, length, head_dim)."""
        update, reset = torch.sigmoid(self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1)).chunk(2, dim=-1)
        return update * (reset * self.grep_a - 1.0) + 2.0

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
        batch, length, _ = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, length, self.heads, self.head_dim).transpose(1, 2)

        query, key, value = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        mask = self._gate(query) * bias.to(x.dtype)
        if padding is not None:
            mask = mask.masked_fill(padding[:, None, None, :], -math.inf)
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return cast(Tensor, self.out_proj(heard.transpose(1, 2).reshape(batch, length, -1)))

    def many(self, x: Tensor, bias: Tensor, counts: list[int]) -> Tensor:
        """Clips that lie one after the other, (rows, width), each of which hears itself alone."""
        projected = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        query, key, value = (y.view(1, len(x), self.heads, self.head_dim).transpose(1, 2) for y in projected)
        parts = zip(*(y.split(counts, dim=2) for y in (query, key, value, self._gate(query))), strict=True)
        heard = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=gate * bias[:, :n, :n].to(x.dtype))
            for n, (q, k, v, gate) in zip(counts, parts, strict=True)
        ]
        return cast(Tensor, self.out_proj(torch.cat(heard, dim=2).transpose(1, 2).reshape(len(x), -1)))


class BeatsLayer(nn.Module):
    """Post-norm transformer layer with deep-norm residual scaling alpha = (2L)^0.25."""

    def __init__(self, config: BeatsConfig, index: int) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.alpha = math.pow(2 * config.encoder_layers, 0.25) if config.deep_norm else 1.0
        self.self_attn = GatedSelfAttention(config, has_bias_table=index == 0)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
        return self._rest(x, self.self_attn(x, bias, padding))

    def many(self, x: Tensor, bias: Tensor, counts: list[int]) -> Tensor:
        """As `GatedSelfAttention.many`."""
        return self._rest(x, self.self_attn.many(x, bias, counts))

    def _rest(self, x: Tensor, heard: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(self.alpha * x + heard)
        return cast(Tensor, self.final_layer_norm(self.alpha * x + self.fc2(F.gelu(self.fc1(x)))))


class PositionConvolution(nn.Conv1d):
    """Grouped convolution along time with weight norm over the kernel axis.

    torch's own weight_norm would rename the published `weight_g`, `weight_v`.
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__(width, width, kernel, padding=kernel // 2, groups=groups)
        initial = self.weight.data
        del self.weight
        self.weight_g = nn.Parameter(initial.norm(dim=(0, 1), keepdim=True))
        self.weight_v = nn.Parameter(initial)

    def fold(self) -> None:
        """Have the weight with its norm instead of its parts: for inference, where it is always the same."""
        weight = self._normed().detach()
        del self.weight_g, self.weight_v
        self.weight = nn.Parameter(weight, requires_grad=False)

    def _normed(self) -> Tensor:
        norm = self.weight_v.norm(dim=(0, 1), keepdim=True)
        return self.weight_v * (self.weight_g / norm)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) to the same; an even kernel gives one step too many, which is dropped."""
        weight = self.weight if "weight" in self._parameters else self._normed()
        if x.is_cuda and x.dtype == weight.dtype and x.dtype in HALVES:
            return F.gelu(torch.stack([self.product(clip, weight) for clip in x]))
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=self.padding[0], groups=self.groups)
        return F.gelu(y[..., : x.shape[1]]).transpose(1, 2)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution as a matrix product of its windows: cuDNN takes no tensor cores for groups this narrow.

        On a CPU, and in float32, the convolution is the faster one.

        Args:
            x: (length, width).
            weight: (width, width / groups, kernel), of the dtype of `x`. As it lies it is the groups' matrices.

        Returns:
            (length, width), before the activation.
        """
        kernel, length, width = weight.shape[2], len(x), x.shape[1]
        before, each = kernel // 2, width // self.groups
        windows = F.pad(x.T, (before, kernel - 1 - before)).unfold(1, kernel, 1)
        windows = windows.unflatten(0, (self.groups, each)).transpose(1, 2)  # still a view: 128 times what x is
        matrices = weight.view(self.groups, each, each * kernel).transpose(1, 2)
        heard = [
            torch.bmm(part.reshape(self.groups, -1, each * kernel), matrices) for part in windows.split(AT_ONCE, dim=1)
        ]
        y = torch.cat(heard, dim=1).transpose(0, 1).reshape(length, width)
        return y if self.bias is None else y + self.bias


class BeatsStack(nn.Module):
    """Convolutional positions, LayerNorm, then the layers (`encoder.` in published checkpoints)."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        convolution = PositionConvolution(config.encoder_embed_dim, config.conv_pos, config.conv_pos_groups)
        self.pos_conv = nn.Sequential(convolution)
        self.layer_norm = nn.LayerNorm(config.encoder_embed_dim)
        self.layers = nn.ModuleList(BeatsLayer(config, i) for i in range(config.encoder_layers))

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        if padding is not None:
            x = x.masked_fill(padding[..., None], 0.0)
        x = self.layer_norm(x + self.pos_conv(x))
        bias = self.stack[0].self_attn.position_bias(x.shape[1])
        for layer in self.stack:
            x = layer(x, bias, padding)
        return x

    def many(self, clips: list[Tensor]) -> list[Tensor]:
        """Clips of different lengths, (length, width) each, none padded: all share a matrix, none hears another."""
        counts = [len(clip) for clip in clips]
        x = self.layer_norm(torch.cat([clip + self.pos_conv(clip[None])[0] for clip in clips]))
        bias = self.stack[0].self_attn.position_bias(max(counts))
        for layer in self.stack:
            x = layer.many(x, bias, counts)
        return list(x.split(counts))

    @property
    def stack(self) -> list[BeatsLayer]:
        """The layers as what they are."""
        return list(self.layers)  # type: ignore[arg-type]


class Beats(nn.Module):
    """Waveform to BEATs tokens: 8 frequency bands for each 160 ms, time-major."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.input_patch_size
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, patch, stride=patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = (
            nn.Linear(config.embed_dim, config.encoder_embed_dim) if config.post_extract_proj else nn.Identity()
        )
        self.encoder = BeatsStack(config)
        if config.finetuned_model:
            self.predictor = nn.Linear(config.encoder_embed_dim, config.predictor_class)

    def fold(self) -> None:
        """As `PositionConvolution.fold`."""
        cast(PositionConvolution, self.encoder.pos_conv[0]).fold()

    def tokens(self, fbank_frames: int) -> int:
        """Tokens for so many fbank frames; a last partial patch is dropped."""
        patch = self.config.input_patch_size
        return (fbank_frames // patch) * (MEL_BINS // patch)

    def forward(self, wave: Tensor, padding: Tensor | None = None) -> Tensor:
        """Encode a batch of waveforms.

        Args:
            wave: (batch, samples) float in [-1, 1) at 16 kHz.
            padding: (batch, samples) bool, True where `wave` is padding; None means none is.

        Returns:
            (batch, tokens, encoder_embed_dim) in the dtype of the weights; outputs at padded
            positions are not zeroed, as in the reference.
        """
        return self.forward_fbank(beats_fbank(wave), padding)

    def forward_fbank(self, fbank: Tensor, padding: Tensor | None = None) -> Tensor:
        """As `forward`, from normalised features (batch, frames, 128)."""
        x = self._patches(fbank)
        return cast(Tensor, self.encoder(x, self._token_mask(padding, fbank.shape[1], x.shape[1])))

    def forward_rounded(self, fbank: Tensor, tokens: Tensor) -> Tensor:
        """As `forward_fbank` of clips that are longer than what is theirs, which hears itself alone.

        Unlike the reference's padding, which `forward` keeps, the mask begins where the tokens of the clip end.

        Args:
            fbank: (batch, frames, 128), anything behind the clip's own.
            tokens: (batch, 1) the clip's own; what is returned behind them has no meaning.
        """
        x = self._patches(fbank)
        return cast(Tensor, self.encoder(x, torch.arange(x.shape[1], device=x.device) >= tokens))

    def forward_many(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """As `forward` without padding for clips of different lengths, (samples,) each: (tokens, width) each."""
        return self.encoder.many([self._patches(beats_fbank(wave[None]))[0] for wave in waves])

    def _patches(self, fbank: Tensor) -> Tensor:
        """(batch, frames, 128) to (batch, time x band, encoder_embed_dim)."""
        patches = self.patch_embedding(fbank.to(self.patch_embedding.weight.dtype)[:, None])
        return cast(Tensor, self.post_extract_proj(self.layer_norm(patches.flatten(2).transpose(1, 2))))

    @staticmethod
    def _token_mask(padding: Tensor | None, frames: int, tokens: int) -> Tensor | None:
        return None if padding is None else shrink_mask(shrink_mask(padding, frames), tokens)

    def class_probabilities(self, wave: Tensor, padding: Tensor | None = None) -> Tensor:
        """What a fine-tuned BEATs says of the whole clip: the sigmoid of its logits' mean over unpadded tokens.

        Args:
            wave, padding: as in `forward`.

        Returns:
            (batch, predictor_class) in [0, 1].
        """
        fbank = beats_fbank(wave)
        logits = self.predictor(self.forward_fbank(fbank, padding))
        mask = self._token_mask(padding, fbank.shape[1], logits.shape[1])
        if mask is None:
            return torch.sigmoid(logits.mean(dim=1))
        kept = (~mask)[..., None]
        return torch.sigmoid((logits * kept).sum(dim=1) / kept.sum(dim=1))


def shrink_mask(mask: Tensor, length: int) -> Tensor:
    """Map a padding mask to a shorter axis: trim to a multiple, group, and call a group padding if all of it is.

    The reference does this twice (samples to frames, frames to tokens) without regard to the patch layout.
    """
    group = mask.shape[1] // length
    return mask[:, : group * length].view(mask.shape[0], length, group).all(dim=-1)
