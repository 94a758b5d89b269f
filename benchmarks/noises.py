"""Steady noises, made from numbers: what a room's machines and its microphone add all day."""

from __future__ import annotations

import numpy as np

from assistant.records import SAMPLE_RATE

# Power falls with this exponent of the frequency.
COLOURS = {"white noise": 0.0, "pink noise": 1.0, "brown noise": 2.0}
STEADY = (*COLOURS, "fan", "hiss", "mains hum", "air conditioning")


def steady(name: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """So much of it, (n,) float64; any level."""
    n = int(seconds * SAMPLE_RATE)
    if name in COLOURS:
        return coloured(n, COLOURS[name], rng)
    at = np.arange(n) / SAMPLE_RATE
    if name == "hiss":
        return np.diff(coloured(n + 1, 0.0, rng))
    if name == "mains hum":
        hum = sum(np.sin(2 * np.pi * 50 * k * at) / k for k in (1, 2, 3, 5))
        return np.asarray(hum + 0.2 * coloured(n, 1.0, rng))
    if name == "fan":  # blades beat slowly against each other
        blades = sum(np.sin(2 * np.pi * 87 * k * at + k) / k**1.5 for k in (1, 2, 3, 4))
        return np.asarray((1 + 0.15 * np.sin(2 * np.pi * 0.7 * at)) * (coloured(n, 1.2, rng) + 0.5 * blades))
    # Air conditioning: it swells by some 2 dB over half a minute.
    return np.asarray(10 ** (np.sin(2 * np.pi * at / 27) / 20) * coloured(n, 1.5, rng))


def coloured(n: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with the frequency to the `exponent`, from 40 Hz up, with a root mean square of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(hertz, 40.0) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, n)
    return noise / np.sqrt(np.mean(noise**2))
