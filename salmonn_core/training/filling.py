"""Everything that a run hears, encoded once: what its feature stores lack is computed."""

from __future__ import annotations

from collections.abc import Sequence

from salmonn_core.training.classify import SMALL
from salmonn_core.training.config import OnClips
from salmonn_core.training.corpus import Features
from salmonn_core.training.features import beats_encode, fill, whisper_encode
from salmonn_core.weights.sources import locate


def filled(config: OnClips, paths: Sequence[str]) -> Features:
    """The features of some clips; BEATs states only where the run names stores and a model for them."""
    features = Features(config.whisper, config.beats, SMALL)
    fill(features.whisper, paths, lambda: whisper_encode(locate(config.whisper_model)), "whisper")
    if config.beats and (model := config.beats_model):
        fill(features.beats, paths, lambda: beats_encode(model), "beats")
    return features
