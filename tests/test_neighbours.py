"""Audio tokens that look at those beside them, after the Q-Former."""

from __future__ import annotations

import torch

from salmonn_core.neighbours import KERNEL, Neighbours


def neighbours(blocks: int = 2) -> Neighbours:
    torch.manual_seed(0)
    model = Neighbours(8, blocks).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.out.weight)
    return model


@torch.inference_mode()
def test_new_neighbours_leave_the_tokens_as_they_are() -> None:
    tokens = torch.randn(9, 8)
    assert torch.equal(Neighbours(8, 3)(tokens, [4, 5]), tokens)


@torch.inference_mode()
def test_a_token_looks_half_a_kernel_to_each_side_in_each_block() -> None:
    model, tokens = neighbours(), torch.randn(21, 8)
    changed = tokens.clone()
    changed[10] *= -1.0
    moved = (model(tokens, [21]) - model(changed, [21])).abs().amax(dim=1) > 1e-6
    reach = 2 * (KERNEL // 2)
    assert moved.tolist() == [abs(place - 10) <= reach for place in range(21)]


@torch.inference_mode()
def test_clips_of_any_length_do_not_look_at_each_other() -> None:
    model = neighbours()
    clips = [torch.randn(length, 8) for length in (1, 12, 2, 5)]
    together = model(torch.cat(clips), [len(clip) for clip in clips]).split([len(clip) for clip in clips])
    for clip, heard in zip(clips, together, strict=True):
        torch.testing.assert_close(heard, model(clip, [len(clip)]), atol=1e-5, rtol=1e-5)
