"""Fit the namer of a finished checkpoint anew: sounds and music that were found later need no other training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from salmonn_core.bridge import Bridge
from salmonn_core.loading import part
from salmonn_core.training.classify import SMALL
from salmonn_core.training.config import NameConfig, files_of
from salmonn_core.training.corpus import SPEECH_WIDTH, TINY_QFORMER, Clip, load_clips
from salmonn_core.training.filling import filled
from salmonn_core.training.learned import learned
from salmonn_core.training.manifests import check_audio
from salmonn_core.training.naming import fit, known_labels, labels_of, words_of
from salmonn_core.training.pieces import Pieces
from salmonn_core.training.trainee import word_embeddings
from salmonn_core.weights.safe import write_safetensors
from salmonn_core.weights.sources import locate

NAMER = "bridge.namer."


def rename(config: NameConfig) -> Path:
    """Write the checkpoint with another namer, of the labels of the set, and return its file.

    Raises:
        UserError: no such checkpoint, or bad data.
    """
    torch.set_num_threads(config.threads or torch.get_num_threads())
    torch.manual_seed(config.seed)
    start = learned(config.start)
    weights = start.weights
    files = files_of(config.train)
    check_audio(files)
    clips = load_clips(files)
    features = filled(config, [clip.path for clip in clips])
    old = start.labels
    labels = sorted({*old, *known_labels(clips)})
    folder = locate(config.llm)
    embeddings = word_embeddings(folder)
    bridge = Bridge(TINY_QFORMER, SPEECH_WIDTH, SMALL.encoder_embed_dim, embeddings.shape[1], len(labels))
    kept = {key: value for key, value in weights.items() if not key.startswith(NAMER)}
    bridge.load_state_dict(part(kept, "bridge."), strict=False)
    fit(bridge, clips, features, labels, words_of(labels, embeddings, Pieces(folder)))
    assert bridge.namer is not None
    anew = _mostly(config.kinds, clips)
    with torch.no_grad():
        for row, label in enumerate(labels):
            # Each label is a regression of its own, so that one can stay while another is fitted on more.
            if label in old and label not in anew:
                bridge.namer.label.weight[row] = weights[f"{NAMER}label.weight"][old.index(label)]
                bridge.namer.label.bias[row] = weights[f"{NAMER}label.bias"][old.index(label)]
    fitted = {NAMER + key: value for key, value in bridge.namer.state_dict().items()}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(kept | fitted, config.out, {"tokens": json.dumps(start.tokens), "labels": json.dumps(labels)})
    return config.out


def _mostly(kinds: Collection[str], clips: Sequence[Clip]) -> set[str]:
    """The labels of which at least half of the clips are of these kinds."""
    found = Counter((label, clip.kind in kinds) for clip in clips for label in labels_of(clip))
    return {label for label, of_them in found if of_them and found[label, True] >= found[label, False]}
