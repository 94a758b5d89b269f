"""The window-level Q-Former, alone on each window as in the paper, and with the frames around it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from salmonn_core.bridge import Bridge
from salmonn_core.config import QFormerConfig
from salmonn_core.context import Blocks
from salmonn_core.errors import UserError

PLAIN = QFormerConfig(
    hidden_size=24, attention_heads=2, intermediate_size=32, queries=3, window_s=0.08, stride_s=0.08
)  # windows of 4 frames
WIDE = replace(PLAIN, context_s=0.08)


def bridge(config: QFormerConfig) -> Bridge:
    torch.manual_seed(0)
    return Bridge(config, 10, 6, 16).eval()


def frames(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 10, generator=random), torch.randn(count, 6, generator=random)


@pytest.mark.parametrize("overlap", [False, True])
@torch.inference_mode()
def test_without_context_it_is_transformers_own(overlap: bool) -> None:
    model = bridge(replace(PLAIN, stride_s=0.04) if overlap else PLAIN)
    speech, audio = frames(18)
    windows = model.windows(model.join(speech, audio))
    queries = model.query_tokens.expand(len(windows), -1, -1)
    theirs = model.qformer(query_embeds=queries, encoder_hidden_states=windows).last_hidden_state
    torch.testing.assert_close(model(speech, audio), model.projection(theirs).flatten(0, 1), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_context_changes_neither_how_many_tokens_there_are_nor_where() -> None:
    speech, audio = frames(18)
    assert len(bridge(WIDE)(speech, audio)) == len(bridge(PLAIN)(speech, audio)) == 4 * 3


@torch.inference_mode()
def test_a_window_hears_its_neighbours_and_nothing_further_away() -> None:
    model = bridge(WIDE)
    speech, audio = frames(20)
    changed = speech.clone()
    changed[16:] *= -1.0  # the last of five windows
    moved = (model(speech, audio) - model(changed, audio)).abs().amax(dim=1).unflatten(0, (5, 3)).amax(dim=1)
    assert (moved > 1e-6).tolist() == [False, False, False, True, True]


@torch.inference_mode()
def test_clips_that_are_heard_together_do_not_hear_each_other() -> None:
    model = bridge(WIDE)
    first, second = frames(18), frames(11, seed=2)
    together = model.forward_batch([first[0], second[0]], [first[1], second[1]])
    torch.testing.assert_close(together[0], model(*first), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1], model(*second), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_blocks_are_heard_as_each_window_would_hear_its_frames_by_itself() -> None:
    model = bridge(replace(PLAIN, context_s=0.16))
    assert model.places is not None
    attention, preference = model.qformer.encoder.layer[0].crossattention.attention, model.places.preference[0]
    clips = [torch.randn(length, 16) for length in (18, 4, 11)]
    window, context = model.config.window_frames, model.config.context_frames
    starts = [(clip, at) for clip in clips for at in range(0, len(clip) - window + 1, window)]
    x = torch.randn(len(starts), 3, 24)
    heard = Blocks(clips, model.config).attend(attention, x, preference)
    for row, (clip, at) in enumerate(starts):
        first, last = max(0, at - context), min(len(clip), at + window + context)
        by_head = [
            linear(what).unflatten(-1, (2, 12)).transpose(0, 1)
            for linear, what in (
                (attention.query, x[row]),
                (attention.key, clip[first:last]),
                (attention.value, clip[first:last]),
            )
        ]
        liked = preference[..., first - at + context : last - at + context]
        alone = scaled_dot_product_attention(*by_head, liked).transpose(0, 1).flatten(1)
        torch.testing.assert_close(heard[row], alone, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_each_query_of_a_new_model_listens_around_its_own_share_of_the_window_and_its_heads_in_a_row() -> None:
    places = bridge(WIDE).places
    assert places is not None
    likeliest = places.preference[0].argmax(dim=-1)  # of 4 places before, 4 in and 4 after the window
    assert likeliest.tolist() == [[0, 1, 3], [8, 9, 11]] or likeliest.tolist() == [[0, 2, 3], [8, 10, 11]]
    assert (likeliest.diff(dim=1) > 0).all()


def test_context_that_does_not_fit_the_windows_is_told() -> None:
    with pytest.raises(UserError, match="whole windows"):
        bridge(replace(PLAIN, context_s=0.04))
    with pytest.raises(UserError, match="overlap"):
        bridge(replace(WIDE, stride_s=0.04))
