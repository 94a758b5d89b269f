"""Triton kernels of one decoding step: five passes over a layer's weights and nothing between them but the caches.

At one position a layer is five matrix-vector products, and what they cost is reading the weights. What stands
between them (norms, activation, the residual) is done where a product begins or ends, so that no kernel of its own
has to be launched and waited for. Each program owns a few rows and reads them from end to end.

Without a GPU the same kernels run in Triton's interpreter (`TRITON_INTERPRET=1`), which is how they are tested.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(
    x,
    norm,
    weight,
    other,
    out,
    rows,
    eps,
    WIDTH: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    ADDED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out (rows,) = weight (rows, WIDTH) @ x (WIDTH,), accumulated in float32.

    NORM: x goes through RMSNorm with the weights `norm` first; its scale is applied to the sum.
    GATED: `other` is a second matrix: silu(weight @ x) * (other @ x). ADDED: the product is added to `out`.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    places = tl.arange(0, BLOCK)
    begin = row.to(tl.int64)[:, None] * WIDTH + places[None, :]
    inside = row[:, None] < rows
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    gated = tl.zeros((ROWS, BLOCK), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    for at in range(0, WIDTH, BLOCK):
        here = at + places < WIDTH
        value = tl.load(x + at + places, mask=here, other=0.0).to(tl.float32)
        if NORM:
            squares += value * value
            value *= tl.load(norm + at + places, mask=here, other=0.0).to(tl.float32)
        both = inside & here[None, :]
        total += tl.load(weight + begin + at, mask=both, other=0.0).to(tl.float32) * value[None, :]
        if GATED:
            gated += tl.load(other + begin + at, mask=both, other=0.0).to(tl.float32) * value[None, :]
    scale = 1.0
    if NORM:
        scale = 1.0 / tl.sqrt(tl.sum(squares, 0) / WIDTH + eps)
    result = tl.sum(total, 1) * scale
    if GATED:
        result = result / (1.0 + tl.exp(-result)) * (tl.sum(gated, 1) * scale)
    if ADDED:
        result += tl.load(out + row, mask=row < rows, other=0.0).to(tl.float32)
    tl.store(out + row, result.to(out.dtype.element_ty), mask=row < rows)


@triton.jit
def place(
    projected,
    lora,
    cosine,
    sine,
    position,
    query,
    keys,
    values,
    strength,
    room,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    HALF: tl.constexpr,
    RANK: tl.constexpr,
):
    """Add the LoRA to what was projected, rotate queries and keys, and write keys and values to their place.

    One program a head. projected: ((HEADS + 2 GROUPS) * 2 HALF + 3 RANK,): queries, keys, values, and the LoRA's
    inner values of each. lora: ((HEADS + 2 GROUPS) * 2 HALF, RANK), its outer matrices one below the other.
    cosine, sine: (positions, HALF) float32. keys, values: (GROUPS, room, 2 HALF).
    """
    head, half = tl.program_id(0), tl.arange(0, HALF)
    at = tl.load(position)
    low = head * 2 * HALF + half
    high = low + HALF
    kind = tl.where(head < HEADS, 0, tl.where(head < HEADS + GROUPS, 1, 2))
    inner = projected + (HEADS + 2 * GROUPS) * 2 * HALF + kind * RANK + tl.arange(0, RANK)
    inner = tl.load(inner).to(tl.float32)[None, :] * strength
    left = tl.load(projected + low).to(tl.float32)
    right = tl.load(projected + high).to(tl.float32)
    ranks = tl.arange(0, RANK)[None, :]
    left += tl.sum(tl.load(lora + low[:, None] * RANK + ranks).to(tl.float32) * inner, 1)
    right += tl.sum(tl.load(lora + high[:, None] * RANK + ranks).to(tl.float32) * inner, 1)
    # A value is not turned; masks instead of branches, since a program may store to one of three places only.
    is_query, is_value = low < HEADS * 2 * HALF, low >= (HEADS + GROUPS) * 2 * HALF
    cos = tl.where(is_value, 1.0, tl.load(cosine + at * HALF + half))
    sin = tl.where(is_value, 0.0, tl.load(sine + at * HALF + half))
    first, second = left * cos - right * sin, right * cos + left * sin
    _store(query + low, first, second, is_query, HALF)
    to = ((head - HEADS) * room + at) * 2 * HALF + half
    _store(keys + to, first, second, (low >= HEADS * 2 * HALF) & (low < (HEADS + GROUPS) * 2 * HALF), HALF)
    to = ((head - HEADS - GROUPS) * room + at) * 2 * HALF + half
    _store(values + to, first, second, is_value, HALF)


@triton.jit
def _store(to, first, second, mask, HALF: tl.constexpr):
    tl.store(to, first.to(to.dtype.element_ty), mask=mask)
    tl.store(to + HALF, second.to(to.dtype.element_ty), mask=mask)


@triton.jit
def attend(
    query,
    keys,
    values,
    position,
    out,
    scale,
    ROOM: tl.constexpr,
    SHARED: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Attention of one position to all up to it, one program a head; SHARED heads have keys and values in common."""
    head = tl.program_id(0)
    dims = tl.arange(0, DIM)
    last = tl.load(position)
    q = tl.load(query + head * DIM + dims).to(tl.float32) * scale
    begin = (head // SHARED) * ROOM * DIM
    best = tl.full((), -float("inf"), tl.float32)
    weight = tl.full((), 0.0, tl.float32)
    total = tl.zeros((DIM,), tl.float32)
    for at in range(0, ROOM, BLOCK):
        if at <= last:
            places = at + tl.arange(0, BLOCK)
            seen = places <= last
            cells = begin + places[:, None] * DIM + dims[None, :]
            k = tl.load(keys + cells, mask=seen[:, None], other=0.0).to(tl.float32)
            score = tl.where(seen, tl.sum(k * q[None, :], 1), -float("inf"))
            higher = tl.maximum(best, tl.max(score, 0))
            kept = tl.exp(best - higher)
            share = tl.exp(score - higher)
            v = tl.load(values + cells, mask=seen[:, None], other=0.0).to(tl.float32)
            total = total * kept + tl.sum(v * share[:, None], 0)
            weight = weight * kept + tl.sum(share, 0)
            best = higher
    tl.store(out + head * DIM + dims, (total / weight).to(out.dtype.element_ty))
