"""Triton kernels of a prompt's pass: what stands between its matrix products, several positions at a time.

The products themselves are cuBLAS's. As in `salmonn_core.kernels`, Triton's interpreter runs the same kernels where
there is no GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from salmonn_core.kernels import _store


@triton.jit
def place_many(
    projected,
    lora,
    cosine,
    sine,
    position,
    query,
    keys,
    values,
    strength,
    count,
    room,
    longest,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    HALF: tl.constexpr,
    RANK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """As `place`, of `count` positions from `position` on: a program for each head and ROWS of them.

    projected: (count, (HEADS + 2 GROUPS) * 2 HALF + 3 RANK). query: (HEADS, count, 2 HALF), written. cosine, sine:
    (longest, HALF); padding behind a prompt may stand behind them, and is turned as the last.
    """
    head = tl.program_id(0)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    half, ranks = tl.arange(0, HALF), tl.arange(0, RANK)
    there = (row < count)[:, None]
    kind = tl.where(head < HEADS, 0, tl.where(head < HEADS + GROUPS, 1, 2))
    low = head * 2 * HALF + half
    own = projected + row[:, None] * ((HEADS + 2 * GROUPS) * 2 * HALF + 3 * RANK)
    inner = own + (HEADS + 2 * GROUPS) * 2 * HALF + kind * RANK + ranks[None, :]
    inner = tl.load(inner, mask=there, other=0.0)
    outer = lora + low[:, None] * RANK + ranks[None, :]
    left = tl.load(own + low[None, :], mask=there, other=0.0).to(tl.float32)
    right = tl.load(own + low[None, :] + HALF, mask=there, other=0.0).to(tl.float32)
    left += tl.dot(inner, tl.trans(tl.load(outer))) * strength
    right += tl.dot(inner, tl.trans(tl.load(outer + HALF * RANK))) * strength
    at = tl.load(position).to(tl.int32) + row
    turn = tl.minimum(at, longest - 1)[:, None] * HALF + half[None, :]
    is_query, is_value = (low < HEADS * 2 * HALF)[None, :], (low >= (HEADS + GROUPS) * 2 * HALF)[None, :]
    cos = tl.where(is_value, 1.0, tl.load(cosine + turn))
    sin = tl.where(is_value, 0.0, tl.load(sine + turn))
    first, second = left * cos - right * sin, right * cos + left * sin
    _store(query + (head * count + row)[:, None] * 2 * HALF + half[None, :], first, second, there & is_query, HALF)
    to = ((head - HEADS) * room + at)[:, None] * 2 * HALF + half[None, :]
    _store(keys + to, first, second, there & ~is_query & ~is_value, HALF)
    to = ((head - HEADS - GROUPS) * room + at)[:, None] * 2 * HALF + half[None, :]
    _store(values + to, first, second, there & is_value, HALF)


@triton.jit
def attend_many(
    query,
    keys,
    values,
    position,
    out,
    scale,
    count,
    room,
    HEADS: tl.constexpr,
    SHARED: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Attention of `count` positions from `position` on, each to all up to it: a program for each head and ROWS.

    Only positions up to a program's last are read. query: as `place_many` leaves it. keys, values: (heads / SHARED,
    room, DIM). out: (count, HEADS * DIM), written.
    """
    head, first = tl.program_id(0), tl.program_id(1) * ROWS
    row, dims = first + tl.arange(0, ROWS), tl.arange(0, DIM)
    there = (row < count)[:, None]
    at = tl.load(position).to(tl.int32)
    end = at + tl.minimum(first + ROWS, count)
    q = tl.load(query + (head * count + row)[:, None] * DIM + dims[None, :], mask=there, other=0.0)
    best = tl.full((ROWS,), -float("inf"), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    total = tl.zeros((ROWS, DIM), tl.float32)
    for begin in range(0, end, BLOCK):
        places = begin + tl.arange(0, BLOCK)
        cells = ((head // SHARED) * room + places)[:, None] * DIM + dims[None, :]
        written = (places < end)[:, None]
        k = tl.load(keys + cells, mask=written, other=0.0)
        v = tl.load(values + cells, mask=written, other=0.0)
        score = tl.dot(q, tl.trans(k)) * scale
        score = tl.where(places[None, :] <= (at + row)[:, None], score, -float("inf"))
        better = tl.maximum(best, tl.max(score, 1))  # finite from the first turn on: all see position 0
        share, kept = tl.exp(score - better[:, None]), tl.exp(best - better)
        weight = weight * kept + tl.sum(share, 1)
        total = total * kept[:, None] + tl.dot(share.to(v.dtype), v)
        best = better
    heard = (total / weight[:, None]).to(out.dtype.element_ty)
    tl.store(out + row[:, None] * (HEADS * DIM) + head * DIM + dims[None, :], heard, mask=there)


@triton.jit
def gate_many(both, out, inner, BLOCK: tl.constexpr):
    """out (positions, inner) = silu of the first half of each row of both (positions, 2 inner), times the second."""
    row = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = at < inner
    gate = tl.load(both + row * 2 * inner + at, mask=here, other=0.0).to(tl.float32)
    up = tl.load(both + row * 2 * inner + inner + at, mask=here, other=0.0).to(tl.float32)
    result = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + row * inner + at, result.to(out.dtype.element_ty), mask=here)
