"""Triton kernels of one decoding step: five passes over a layer's weights and nothing between them but the caches.

At one position a layer is five matrix-vector products, and what they cost is reading the weights. What stands
between them (norms, activation, the residual) is done where a product begins or ends, so that no kernel of its own
has to be launched and waited for. Each program owns a few rows and reads them from end to end.

Without a GPU the same kernels run in Triton's interpreter (`TRITON_INTERPRET=1`), which is how they are tested.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


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
    UNROLL: tl.constexpr,
    EARLY: tl.constexpr,
):
    """out (rows,) = weight (rows, WIDTH) @ x (WIDTH,), accumulated in float32.

    NORM: x goes through RMSNorm with the weights `norm` first; its scale is applied to the sum.
    GATED: `other` is a second matrix: silu(weight @ x) * (other @ x). ADDED: the product is added to `out`.
    EARLY: here and below, its programs may begin before the kernel before has ended, and wait for that themselves.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    places = tl.arange(0, BLOCK)
    begin = row.to(tl.int64)[:, None] * WIDTH + places[None, :]
    inside = row[:, None] < rows
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    gated = tl.zeros((ROWS, BLOCK), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    # Weights are always a turn ahead of their product, the first ones ahead of the kernel before.
    both = inside & (places < WIDTH)[None, :]
    first = tl.load(weight + begin, mask=both, other=0.0)
    if GATED:
        second = tl.load(other + begin, mask=both, other=0.0)
    if EARLY:
        _await_kernel_before()
    for at in tl.range(0, WIDTH, BLOCK, loop_unroll_factor=UNROLL):
        here = at + places < WIDTH
        both = inside & (at + BLOCK + places < WIDTH)[None, :]
        next_first = tl.load(weight + begin + at + BLOCK, mask=both, other=0.0)
        if GATED:
            next_second = tl.load(other + begin + at + BLOCK, mask=both, other=0.0)
        value = tl.load(x + at + places, mask=here, other=0.0).to(tl.float32)
        if NORM:
            squares += value * value
            value *= tl.load(norm + at + places, mask=here, other=0.0).to(tl.float32)
        total += first.to(tl.float32) * value[None, :]
        first = next_first
        if GATED:
            gated += second.to(tl.float32) * value[None, :]
            second = next_second
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
def _await_kernel_before():
    """What it wrote is there from here on; and the kernel behind may begin, once all programs of this one have."""
    gdc_wait()
    gdc_launch_dependents()


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
    EARLY: tl.constexpr,
):
    """Add the LoRA to what was projected, rotate queries and keys, and write keys and values to their place.

    One program a head. projected: ((HEADS + 2 GROUPS) * 2 HALF + 3 RANK,): queries, keys, values, and the LoRA's
    inner values of each. lora: ((HEADS + 2 GROUPS) * 2 HALF, RANK), its outer matrices one below the other.
    cosine, sine: (positions, HALF) float32. keys, values: (GROUPS, room, 2 HALF).
    """
    if EARLY:
        _await_kernel_before()
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
    totals,
    bests,
    weights,
    finished,
    out,
    scale,
    ROOM: tl.constexpr,
    SHARED: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Attention of one position to all up to it: a program for each head and for each BLOCK of positions.

    One a head would leave most of a GPU idle. Programs behind the position end at once; each of the others leaves its
    part of the softmax, and the one that is done last joins what all of its head left: a kernel of its own for that
    would have to be waited for. SHARED heads have keys and values in common.

    totals: (heads, CHUNKS, DIM); bests, weights: (heads, CHUNKS), all float32 and read only where they were written.
    finished: (heads,) int32, zeros before and after.
    """
    if EARLY:
        _await_kernel_before()
    head, chunk = tl.program_id(0), tl.program_id(1)
    dims = tl.arange(0, DIM)
    last = tl.load(position)
    if chunk * BLOCK <= last:
        places = chunk * BLOCK + tl.arange(0, BLOCK)
        seen = places <= last
        cells = (head // SHARED) * ROOM * DIM + places[:, None] * DIM + dims[None, :]
        k = tl.load(keys + cells, mask=seen[:, None], other=0.0).to(tl.float32)
        v = tl.load(values + cells, mask=seen[:, None], other=0.0).to(tl.float32)
        q = tl.load(query + head * DIM + dims).to(tl.float32) * scale
        score = tl.where(seen, tl.sum(k * q[None, :], 1), -float("inf"))
        best = tl.max(score, 0)
        share = tl.exp(score - best)
        mine = head * CHUNKS + chunk
        tl.store(totals + mine * DIM + dims, tl.sum(v * share[:, None], 0))
        tl.store(bests + mine, best)
        tl.store(weights + mine, tl.sum(share, 0))
        tl.debug_barrier()  # all threads have written before one says so
        if tl.atomic_add(finished + head, 1) == last // BLOCK:
            _join(totals, bests, weights, out, head, last // BLOCK, DIM, CHUNKS)
            tl.store(finished + head, 0)


@triton.jit
def _join(totals, bests, weights, out, head, final, DIM: tl.constexpr, CHUNKS: tl.constexpr):
    """The softmax over all chunks of a head up to the final one, from their parts."""
    dims, chunks = tl.arange(0, DIM), tl.arange(0, CHUNKS)
    used = chunks <= final
    mine = head * CHUNKS + chunks
    # From the second-level cache, which all programs write to: a processor's own may hold what was there before.
    best = tl.load(bests + mine, mask=used, other=-float("inf"), cache_modifier=".cg")
    weight = tl.load(weights + mine, mask=used, other=0.0, cache_modifier=".cg")
    cells = mine[:, None] * DIM + dims[None, :]
    total = tl.load(totals + cells, mask=used[:, None], other=0.0, cache_modifier=".cg")
    kept = tl.exp(best - tl.max(best, 0))
    heard = tl.sum(total * kept[:, None], 0) / tl.sum(weight * kept, 0)
    tl.store(out + head * DIM + dims, heard.to(out.dtype.element_ty))
