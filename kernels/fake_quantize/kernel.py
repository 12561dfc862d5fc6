"""Ŵ = S · level[code], code = level nearest to W/S, S = B·A, in one pass over W.

The recipe of `reference.codebooks.assign_nearest`: the quotient is W · (1/S) in float32, |S| is kept above the smallest
normal number with its sign, and the code counts the midpoints of levels that lie strictly below the quotient. A NaN
weight stays NaN in Ŵ.
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.tiles import local_rows

SMALLEST_NORMAL = tl.constexpr(1.1754943508222875e-38)
INSIDE_FLAG = tl.constexpr(128)


@triton.jit
def _midpoints(levels_ptr, LEVELS: tl.constexpr):
    """15 midpoints between neighbouring levels, infinity past the last."""
    midpoints = ()
    below = tl.load(levels_ptr)
    for i in tl.static_range(1, 16):
        if i < LEVELS:
            level = tl.load(levels_ptr + i)
            midpoints = midpoints + ((below + level) * 0.5,)
            below = level
        else:
            midpoints = midpoints + (float("inf"),)
    return midpoints


@triton.jit
def _nearest_code(quotient, m, LEVELS: tl.constexpr):
    """Midpoints that lie strictly below the quotient, by four comparisons: half the instructions of fifteen.

    (A sum of fifteen comparisons is turned into a bit count by the compiler, with a stack frame.)
    """
    bit3 = quotient > m[7]
    bit2 = quotient > tl.where(bit3, m[11], m[3])
    bit1 = quotient > tl.where(bit3, tl.where(bit2, m[13], m[9]), tl.where(bit2, m[5], m[1]))
    upper = tl.where(bit2, tl.where(bit1, m[14], m[12]), tl.where(bit1, m[10], m[8]))
    lower = tl.where(bit2, tl.where(bit1, m[6], m[4]), tl.where(bit1, m[2], m[0]))
    bit0 = quotient > tl.where(bit3, upper, lower)
    return tl.where(bit3, 8, 0) + tl.where(bit2, 4, 0) + tl.where(bit1, 2, 0) + tl.where(bit0, 1, 0)


@triton.jit
def fake_quantize_kernel(
    weight_ptr, a_ptr, b_ptr, levels_ptr, fake_ptr, codes_ptr, N, K, R, weight_stride_n,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, LEVELS: tl.constexpr, EVEN_N: tl.constexpr,
):  # fmt: skip
    """One tile per program. Grid: (row tiles, column tiles).

    `codes_ptr` is uint8: the code in the low bits; bit 7 where the lowest level ≤ W/S ≤ the highest level, that is,
    where the straight-through gradient with respect to S is level - W/S instead of level.
    """
    first_n = tl.program_id(0) * BLOCK_N
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
    inside = ((first_n + tl.arange(0, BLOCK_N)) < N)[:, None] & (k < K)[None, :]
    # Factors are float32 in training, which tensor cores would round: R multiply-adds per weight, no tile of B or A.
    scale = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for rank in range(R):
        a = tl.load(a_ptr + rank * K + k, mask=k < K, other=0.0).to(tl.float32)
        b = tl.load(b_ptr + (first_n + rows) * R + rank).to(tl.float32)
        scale += b[:, None] * a[None, :]

    row_offsets = (first_n + rows).to(tl.int64)[:, None]
    weight = tl.load(weight_ptr + row_offsets * weight_stride_n + k[None, :], mask=inside, other=0.0).to(tl.float32)
    guarded = tl.maximum(tl.abs(scale), SMALLEST_NORMAL)
    guarded = tl.where(scale < 0, -guarded, guarded)
    quotient = weight * (1.0 / guarded)

    code = _nearest_code(quotient, _midpoints(levels_ptr, LEVELS), LEVELS)
    lowest, highest = tl.load(levels_ptr), tl.load(levels_ptr + LEVELS - 1)
    value = tl.load(levels_ptr + code)
    fake = tl.where(tl.abs(quotient) >= 0, value * scale, quotient)
    flag = tl.where((quotient >= lowest) & (quotient <= highest), INSIDE_FLAG, 0)

    offsets = row_offsets * K + k[None, :]
    tl.store(fake_ptr + offsets, fake.to(fake_ptr.dtype.element_ty), mask=inside)
    tl.store(codes_ptr + offsets, (code | flag).to(tl.uint8), mask=inside)
