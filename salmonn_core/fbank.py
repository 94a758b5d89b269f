"""Kaldi log-mel filter banks in batched torch, as BEATs was trained on.

Same numbers as Kaldi's `compute-fbank-feats` with its defaults (Povey window, snipped edges,
pre-emphasis 0.97, DC removed, no dither) to 1e-4, on whatever device the waveform is.
Source: Kaldi feat/feature-window.cc and mel-computations.cc; BEATs uses 128 mels, 25 ms / 10 ms.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SAMPLE_RATE = 16_000
FRAME_LENGTH = 400  # samples: 25 ms
FRAME_SHIFT = 160  # samples: 10 ms
FFT_SIZE = 512
MEL_BINS = 128
LOW_HZ, HIGH_HZ = 20.0, 8_000.0
PREEMPHASIS = 0.97
INT16_SCALE = 2.0**15
# Mean and deviation over AudioSet; BEATs divides by twice the deviation.
MEAN, DEVIATION = 15.41663, 6.55582


def frame_count(samples: int) -> int:
    """Frames of 25 ms every 10 ms that fit whole into `samples`."""
    return 0 if samples < FRAME_LENGTH else 1 + (samples - FRAME_LENGTH) // FRAME_SHIFT


def kaldi_fbank(wave: Tensor) -> Tensor:
    """Log-mel energies of a batch of waveforms, not normalised.

    Args:
        wave: (batch, samples) float in [-1, 1) at 16 kHz, at least 400 samples long.

    Returns:
        (batch, frames, 128), float32; computed in float64 because float32 loses 1e-4 in quiet frames.
    """
    window, banks = _constants(wave.device)
    frames = (wave.double() * INT16_SCALE).unfold(-1, FRAME_LENGTH, FRAME_SHIFT)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    previous = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
    frames = (frames - PREEMPHASIS * previous) * window
    spectrum = torch.fft.rfft(frames, n=FFT_SIZE)[..., : FFT_SIZE // 2]
    power = spectrum.real.square() + spectrum.imag.square()  # a sum over pairs takes ten times as long
    # Kaldi floors at float32's epsilon, whatever the precision of the sums.
    return (power @ banks).clamp_min(torch.finfo(torch.float32).eps).log().float()


def beats_fbank(wave: Tensor) -> Tensor:
    """What BEATs sees: `kaldi_fbank` normalised; (batch, frames, 128) float32."""
    return (kaldi_fbank(wave) - MEAN) / (2.0 * DEVIATION)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


@lru_cache(maxsize=4)
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """The Povey window (400,) and the triangular banks (256, 128), float64."""
    window = torch.hann_window(FRAME_LENGTH, periodic=False, dtype=torch.float64).pow(0.85)
    low, high = _mel(torch.tensor([LOW_HZ, HIGH_HZ], dtype=torch.float64))
    edges = low + torch.arange(MEL_BINS + 2, dtype=torch.float64) * (high - low) / (MEL_BINS + 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    mels = _mel(torch.arange(FFT_SIZE // 2, dtype=torch.float64) * SAMPLE_RATE / FFT_SIZE)[:, None]
    rising, falling = (mels - left) / (centre - left), (right - mels) / (right - centre)
    banks = torch.minimum(rising, falling).clamp_min(0.0)
    return window.to(device), banks.to(device)
