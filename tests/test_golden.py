"""Numbers of the reference implementation (../shared/golden): fbank, BEATs with each kind of padding mask."""

from dataclasses import fields

import numpy as np
import pytest
import soundfile
import torch

from salmonn_core.beats import Beats, relative_position_bucket
from salmonn_core.config import BeatsConfig, QFormerConfig
from salmonn_core.fbank import beats_fbank
from salmonn_core.weights.safe import assign
from tests.conftest import SHARED, needs_shared

GOLDEN = SHARED / "golden"
pytestmark = needs_shared


@pytest.fixture(scope="module")
def outputs():
    return np.load(GOLDEN / "outputs.npz")


@pytest.fixture(scope="module")
def beats():
    checkpoint = torch.load(GOLDEN / "beats.pt", map_location="cpu", weights_only=True)
    known = {f.name for f in fields(BeatsConfig)}
    model = Beats(BeatsConfig(**{k: v for k, v in checkpoint["cfg"].items() if k in known})).eval()
    shared_table = "self_attn.relative_attention_bias.weight"  # later layers hold copies of the first one's
    weights = {k: v.float() for k, v in checkpoint["model"].items() if shared_table not in k or ".0." in k}
    assign(model, weights, "beats.pt")
    return model


def wave(name):
    return torch.from_numpy(soundfile.read(GOLDEN / f"{name}.wav")[0])[None]


@pytest.mark.parametrize("clip", ["noise", "chirp", "duck"])
def test_fbank_agrees_with_kaldi(clip, outputs):
    assert np.abs(beats_fbank(wave(clip))[0].numpy() - outputs[f"fbank_{clip}"]).max() < 1e-4


@pytest.mark.parametrize("clip", ["noise", "chirp", "duck"])
def test_beats_agrees_with_the_reference(clip, outputs, beats):
    with torch.inference_mode():
        assert np.abs(beats(wave(clip))[0].numpy() - outputs[f"beats_none_{clip}"]).max() < 1e-4


def test_a_padded_batch_agrees_with_the_reference(outputs, beats):
    clips = [wave("noise")[0], wave("chirp")[0]]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    padding = torch.arange(batch.shape[1])[None] >= torch.tensor([len(c) for c in clips])[:, None]
    with torch.inference_mode():
        assert np.abs(beats(batch, padding).numpy() - outputs["batch_beats"]).max() < 1e-4


def test_relative_position_buckets_agree_with_the_reference(outputs):
    distance = torch.from_numpy(outputs["rel_bucket_dist"])
    assert (relative_position_bucket(distance, 320, 800).numpy() == outputs["rel_bucket"]).all()


def test_the_official_windows_give_88_audio_tokens():
    assert QFormerConfig().window_frames == 17
    assert QFormerConfig().audio_tokens(1500) == 88
