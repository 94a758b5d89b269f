"""The Whisper encoder without its decoder, on 30 s of padding (official) or on the clip alone (salmonn-tiny)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn_core.config import SAMPLE_RATE
from salmonn_core.weights.safe import assign, read_safetensors, weight_files

ENCODER_PREFIXES = ("model.encoder.", "encoder.")  # of WhisperForConditionalGeneration, of WhisperModel


def load_whisper_encoder(folder: Path, dtype: torch.dtype, device: str = "cpu") -> WhisperEncoder:
    """The encoder of a transformers Whisper folder, the decoder left on disk.

    Raises:
        UserError: a weight is missing from the folder or has another shape.
    """
    config = WhisperConfig.from_pretrained(folder)
    with torch.device("meta"):
        encoder = WhisperEncoder(config)
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        for prefix in ENCODER_PREFIXES:
            tensors |= read_safetensors(path, prefix)
    assign(encoder, tensors, str(folder), device, dtype)
    return cast(WhisperEncoder, encoder.eval().requires_grad_(False))


@lru_cache(maxsize=2)
def _extractor(mel_bins: int) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=mel_bins)


def log_mel(wave: np.ndarray | list[np.ndarray], mel_bins: int, pad_to_30s: bool, device: str = "cpu") -> Tensor:
    """Whisper's log-mel spectrogram.

    Args:
        wave: (samples,) float in [-1, 1) at 16 kHz; or several of one length.
        device: where it is computed; what it returns is on the host.

    Returns:
        (clips, mel_bins, frames) float32, 100 frames a second; 3,000 frames if padded.
    """
    padding = "max_length" if pad_to_30s else "longest"
    extract = _extractor(mel_bins)
    features = extract(wave, sampling_rate=SAMPLE_RATE, padding=padding, device=device, return_tensors="pt")
    return cast(Tensor, features.input_features)


def log_mel_there(wave: Tensor, mel_bins: int) -> Tensor:
    """As `log_mel` of a clip padded to 30 s, but left where the clip is, so that nothing waits for its device.

    Args:
        wave: (samples,) float32.

    Returns:
        (1, mel_bins, 3000) float32.
    """
    extract = _extractor(mel_bins)
    window, banks = _mel_constants(mel_bins, wave.device)
    padded = F.pad(wave, (0, extract.n_samples - len(wave)))[None]
    spectrum = torch.stft(padded, extract.n_fft, extract.hop_length, window=window, return_complex=True)
    power = (spectrum[..., :-1].abs() ** 2).contiguous()
    logs = (banks @ power).clamp_min(1e-10).log10()
    return (torch.maximum(logs, logs.amax() - 8.0) + 4.0) / 4.0


@lru_cache(maxsize=4)
def _mel_constants(mel_bins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The Hann window (400,) and the triangular banks (mel_bins, 201), float32."""
    extract = _extractor(mel_bins)
    banks = torch.from_numpy(extract.mel_filters).to(device, torch.float32)
    return torch.hann_window(extract.n_fft, device=device), banks.T


def encode_whisper(encoder: WhisperEncoder, mels: Sequence[Tensor]) -> list[Tensor]:
    """Encoder states of log-mels of any lengths up to 30 s.

    transformers' own forward accepts 3,000 frames only; here positions are sliced to the clip, which on short
    clips saves nine tenths of the work. Nothing is padded: frames of all clips go through a matrix together, and
    attention is each clip's own, so that a clip's states do not depend on its neighbours.

    Args:
        mels: (1, mel_bins, frames) each.

    Returns:
        (frames / 2, d_model) each: 50 states a second, after the final LayerNorm.
    """
    frames = [_frames(encoder, mel) for mel in mels]
    counts = [len(clip) for clip in frames]
    x = torch.cat(frames)
    for layer in encoder.layers:
        x = x + _attend(layer.self_attn, layer.self_attn_layer_norm(x), counts)
        x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
    return list(encoder.layer_norm(x).split(counts))


def _frames(encoder: WhisperEncoder, mel: Tensor) -> Tensor:
    """(1, mel_bins, frames) through the convolutions, positions added: (frames / 2, d_model)."""
    x = F.gelu(encoder.conv1(mel.to(encoder.conv1.weight.dtype)))
    x = F.gelu(encoder.conv2(x))[0].T
    return x + encoder.embed_positions.weight[: len(x)]


def _attend(attention: Any, x: Tensor, counts: list[int]) -> Tensor:
    """Self-attention of clips that lie one after the other, (rows, d_model)."""
    heads, head_dim = attention.num_heads, attention.head_dim
    projected = (attention.q_proj(x), attention.k_proj(x), attention.v_proj(x))
    parts = zip(*(y.view(len(x), heads, head_dim).transpose(0, 1).split(counts, dim=1) for y in projected), strict=True)
    scale = attention.scaling
    heard = [F.scaled_dot_product_attention(q[None], k[None], v[None], scale=scale)[0] for q, k, v in parts]
    joined = heard[0] if len(heard) == 1 else torch.cat(heard, dim=1)  # one alone would be copied
    return cast(Tensor, attention.out_proj(joined.transpose(0, 1).reshape(len(x), -1)))
