"""Weights at a byte each."""

from __future__ import annotations

import torch

from salmonn_core.weights.rowwise import SCALE, packed, unpacked


def test_what_is_packed_is_an_int8_matrix_whose_rows_come_back_to_half_a_step() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 4, 32) * torch.tensor([1e-3, 0.1, 1.0, 10.0, 0.0])[:, None, None]
    state = packed({"beats.weight": weight}, ("beats.",))
    assert state["beats.weight"].dtype == torch.int8
    assert state["beats.weight" + SCALE].shape == (5,)
    back = unpacked(state)
    assert set(back) == {"beats.weight"}
    steps = weight.abs().amax(dim=(1, 2), keepdim=True) / 127.0
    assert ((back["beats.weight"] - weight).abs() <= 0.51 * steps + 1e-8).all()


def test_biases_short_rows_whole_numbers_and_other_parts_stay_as_they_are() -> None:
    state = {
        "beats.bias": torch.randn(256),
        "beats.factor": torch.tensor(0.5),
        "beats.taps": torch.randn(64, 7),
        "beats.ids": torch.ones(2, 256, dtype=torch.int32),
        "bridge.weight": torch.randn(4, 256),
    }
    assert packed(state, ("beats.",)) == state
    assert unpacked(state) == state
