"""A single clip through the passes that a GPU records: the states of the clip alone, whatever it is rounded up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from benchmarks.gpu import SIZES, random_model
from salmonn_core.ahead import Aside
from salmonn_core.audio import fit_length
from salmonn_core.beats import Beats, PositionConvolution
from salmonn_core.bridge import Bridge
from salmonn_core.config import SAMPLE_RATE, BeatsConfig, QFormerConfig
from salmonn_core.graphs import Recorded
from salmonn_core.hearing import Hearing
from salmonn_core.model import Salmonn
from salmonn_core.whisper import encode_whisper, log_mel, log_mel_there

BEATS = BeatsConfig(
    embed_dim=32, encoder_layers=3, encoder_embed_dim=64, encoder_ffn_embed_dim=128, encoder_attention_heads=4
)
QFORMER = QFormerConfig(hidden_size=64, attention_heads=2, intermediate_size=128)


@pytest.fixture(scope="module")
def parts() -> tuple[WhisperEncoder, Beats, Bridge]:
    torch.manual_seed(0)
    whisper = WhisperConfig(d_model=64, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=128)
    found = WhisperEncoder(whisper), Beats(BEATS), Bridge(QFORMER, 64, 64, 48, labels=5)
    for part in found:
        part.eval().requires_grad_(False)
    return found


def clip(seconds: float, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE)) * 0.1
    return fit_length(wave.astype(np.float32))


def alone(parts: tuple[WhisperEncoder, Beats, Bridge], wave: np.ndarray) -> list[torch.Tensor]:
    """Whisper's states, BEATs' tokens, and what the bridge hears, without a mask and without buffers."""
    whisper, beats, bridge = parts
    speech = encode_whisper(whisper, [log_mel(wave, 80, True)])
    audio = beats.forward_many([torch.from_numpy(wave)])
    return [speech[0], audio[0], *bridge.hear(speech, audio)[0]]


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [1.0, 4.37, 5.135, 10.0, 30.0])
def test_a_clip_is_heard_as_it_is_heard_unrounded(parts: tuple[WhisperEncoder, Beats, Bridge], seconds: float) -> None:
    hearing, wave = Hearing(*parts), clip(seconds)
    speech, heard = hearing.hear(wave)
    mine = [speech, hearing.audio(torch.from_numpy(wave)), *heard]
    for found, wanted in zip(mine, alone(parts, wave), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_what_is_heard_aside_follows_the_clip_and_is_waited_for(
    parts: tuple[WhisperEncoder, Beats, Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str] = []

    class Noted(Aside):
        def follow(self) -> None:
            did.append("follow")

        def hand_over(self, done: torch.cuda.Event | None, result: torch.Tensor) -> torch.Tensor:
            did.append("hand over")
            return super().hand_over(done, result)

    monkeypatch.setattr("salmonn_core.hearing.Aside", Noted)
    hearing = Hearing(*parts)
    monkeypatch.setattr(hearing, "audio", lambda samples: did.append("audio") or parts[1].forward(samples[None])[0])
    hearing.hear(clip(2.0))
    assert did == ["follow", "audio", "hand over"]


@torch.inference_mode()
def test_a_clip_in_double_precision_is_heard_as_in_single(parts: tuple[WhisperEncoder, Beats, Bridge]) -> None:
    wave = clip(3.0)
    found, wanted = (Hearing(*parts).hear(each)[1].tokens for each in (wave.astype(np.float64), wave))
    assert torch.equal(found, wanted)


@torch.inference_mode()
def test_what_is_behind_a_clip_does_not_reach_it(parts: tuple[WhisperEncoder, Beats, Bridge]) -> None:
    _, beats, _ = parts
    fbank, tokens = torch.randn(1, 512, 128), torch.tensor([[200]])
    other = torch.cat((fbank[:, :400], torch.randn(1, 112, 128)), dim=1)
    first, second = (beats.forward_rounded(each, tokens)[0] for each in (fbank, other))
    assert torch.equal(first[:200], second[:200])
    first, second = (beats.forward_fbank(each)[0] for each in (fbank, other))
    assert not torch.allclose(first[:200], second[:200], atol=1e-3)


def test_a_model_hears_a_clip_alike_where_it_records_and_where_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(SIZES["toy"], "cpu")
    for part in (model.whisper, model.beats, model.bridge):
        part.float()
    wanted = model.encode(clip(3.0))
    assert "hearing" not in vars(model)  # nothing is recorded on a CPU
    monkeypatch.setattr(Salmonn, "_records", lambda self: True)
    found = model.encode(clip(3.0))
    assert "hearing" in vars(model)
    torch.testing.assert_close(found.tokens, wanted.tokens, atol=1e-5, rtol=1e-5)


def test_passes_are_prepared_once_a_shape_and_as_few_as_asked_for_are_kept() -> None:
    ran: list[int] = []

    class Noted(Recorded):
        def _prepared(self, given):
            ran.append(len(given[0]))
            return super()._prepared(given)

    module = torch.nn.Linear(3, 3)
    twice = Noted(lambda x: (2 * x,), module, kept=2)
    for length in (1, 2, 1, 3, 1, 2):
        assert torch.equal(twice(torch.ones(length))[0], torch.full((length,), 2.0))
    assert ran == [1, 2, 3, 2]  # the one that was used longest ago is dropped


def test_what_a_pass_gave_is_not_overwritten_by_the_next() -> None:
    same = Recorded(lambda x: (x,), torch.nn.Linear(3, 3))
    first = same(torch.zeros(2))[0]
    same(torch.ones(2))
    assert torch.equal(first, torch.zeros(2))


def test_a_module_whose_weights_moved_is_prepared_again() -> None:
    module = torch.nn.Linear(3, 3)
    run = Recorded(lambda x: (x.to(module.weight.dtype) @ module.weight,), module)
    assert run(torch.ones(1, 3))[0].dtype == torch.float32
    module.bfloat16()
    assert run(torch.ones(1, 3))[0].dtype == torch.bfloat16
    assert len(run._passes) == 1


@torch.inference_mode()
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize(("length", "kernel"), [(5, 128), (600, 128), (600, 7)], ids=["short", "in parts", "odd"])
def test_positions_are_the_same_as_a_product_and_as_a_convolution(
    length: int, kernel: int, dtype: torch.dtype, bound: float
) -> None:
    torch.manual_seed(0)
    convolution = PositionConvolution(96, kernel, 4).to(dtype)
    x = torch.randn(1, length, 96).to(dtype)
    wanted = convolution(x)[0]
    norm = convolution.weight_v.norm(dim=(0, 1), keepdim=True)
    found = convolution.product(x[0], convolution.weight_v * (convolution.weight_g / norm))
    torch.testing.assert_close(torch.nn.functional.gelu(found), wanted, atol=bound, rtol=0)


@torch.inference_mode()
def test_positions_are_the_same_to_the_bit_with_their_norm_folded_in() -> None:
    torch.manual_seed(0)
    convolution, x = PositionConvolution(96, 128, 4).bfloat16(), torch.randn(1, 50, 96).bfloat16()
    wanted = convolution(x)
    convolution.fold()
    assert torch.equal(convolution(x), wanted)
    assert sorted(dict(convolution.named_parameters())) == ["bias", "weight"]


@pytest.mark.parametrize("seconds", [1.0, 10.0, 30.0])
def test_a_log_mel_that_is_left_on_its_device_is_the_same(seconds: float) -> None:
    wave = clip(seconds)
    torch.testing.assert_close(log_mel_there(torch.from_numpy(wave), 80), log_mel(wave, 80, True), atol=1e-6, rtol=0)
