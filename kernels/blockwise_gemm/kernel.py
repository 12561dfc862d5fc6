"""y_MN = x_MK @ W_NK^T with block-wise scales, one output tile per program, W decoded into the operand's registers.

The two tile forms of the LoRDS GEMM (`scale_tile_gemm`), with the one difference that the formats have: where LoRDS
multiplies B and A for the scale of each weight, this kernel reads one scale, and one zero point, per block of inputs.
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.decode import decode_words, join_positions, load_table, load_words
from lords_bench.kernels.common.layout import k_block, plane_count, position_count
from lords_bench.kernels.common.results import store_transposed
from lords_bench.kernels.common.tiles import load_transposed, local_rows


@triton.jit
def _group_rows(ptr, first_n, rows, SCALES_PER_ROW: tl.constexpr):
    """Pointers to the first group of each row: to 32-bit words of two groups where a group has 16 bits."""
    if ptr.dtype.element_ty.primitive_bitwidth == 16:
        row_ptrs = ptr.to(tl.pointer_type(tl.int32), bitcast=True) + first_n.to(tl.int64) * (SCALES_PER_ROW // 2)
        row_ptrs += rows * (SCALES_PER_ROW // 2)
    else:
        row_ptrs = ptr + first_n.to(tl.int64) * SCALES_PER_ROW + rows * SCALES_PER_ROW
    return row_ptrs


@triton.jit
def _load_groups(row_ptrs, first, shift_ptr, COUNT: tl.constexpr, STORED: tl.constexpr, DTYPE: tl.constexpr):
    """Numbers of COUNT groups from number `first` on: a tuple of [rows, 1] in DTYPE.

    Copies to shared memory ahead of their use are of four bytes or more, so 16-bit numbers are read in pairs. Which
    half of a pair is wanted is a shift read from memory, as everything must be that W is made of: computed from the
    loop's counter, it would keep the compiler from making W in the operand's layout.
    """
    numbers = ()
    if STORED.primitive_bitwidth == 32:
        for i in tl.static_range(COUNT):
            numbers = numbers + (tl.load(row_ptrs + (first + i)).to(DTYPE)[:, None],)
    elif COUNT == 1:
        pair = tl.load(row_ptrs + first // 2) >> tl.load(shift_ptr + first % 2 + tl.arange(0, 1))
        numbers = numbers + (pair.to(tl.int16).to(STORED, bitcast=True).to(DTYPE)[:, None],)
    else:
        for i in tl.static_range(0, COUNT, 2):
            pair = tl.load(row_ptrs + (first // 2 + i // 2))
            low = pair.to(tl.int16).to(STORED, bitcast=True).to(DTYPE)
            high = (pair >> 16).to(tl.int16).to(STORED, bitcast=True).to(DTYPE)
            numbers = numbers + (low[:, None], high[:, None])
    return numbers


@triton.jit
def _weight(levels, scales, zeros, position: tl.constexpr, TOGETHER: tl.constexpr, HAS_ZERO: tl.constexpr):
    """(level - zero) · scale of a position; the difference is exact where levels and zero points are integers."""
    weight = levels[position]
    if HAS_ZERO:
        weight -= zeros[position // TOGETHER]
    return weight * scales[position // TOGETHER]


@triton.jit
def blockwise_gemm_kernel(
    packed_ptr, scale_ptr, zero_ptr, x_ptr, bias_ptr, y_ptr, table_ptr, shift_ptr, small_ptr, lora_b_ptr,
    M, N, K, k_blocks, x_stride_m, x_stride_k, y_stride_m, lora_rank,
    SCALES_PER_ROW: tl.constexpr, JOINED: tl.constexpr, BLOCK: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr, LEVEL_UNIT: tl.constexpr, HAS_ZERO: tl.constexpr,
    EVEN_M: tl.constexpr, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr, HAS_BIAS: tl.constexpr, LORA_RANK: tl.constexpr,
):  # fmt: skip
    """Grid: (N tiles, M tiles). JOINED: one product per K block, for wgmma; else one per position, for mma.sync."""
    KB: tl.constexpr = k_block(BITS)
    POSITIONS: tl.constexpr = position_count(BITS)
    BLOCK_WORDS: tl.constexpr = 16 * plane_count(BITS)
    # Groups in a K block, and positions that share one; a larger group serves several K blocks.
    GROUPS: tl.constexpr = 1 if BLOCK >= KB else KB // BLOCK
    TOGETHER: tl.constexpr = POSITIONS // GROUPS
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    first_n = tl.program_id(0) * BLOCK_N
    rows_m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    table = load_table(table_ptr, BITS, DECODER)
    rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
    row_words = k_blocks * BLOCK_WORDS
    row_ptrs = packed_ptr + first_n.to(tl.int64) * row_words + (rows * row_words)[:, None]
    scale_ptrs = _group_rows(scale_ptr, first_n, rows, SCALES_PER_ROW)
    zero_ptrs = _group_rows(zero_ptr, first_n, rows, SCALES_PER_ROW)
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    if LORA_RANK > 0:
        # The sums begin with B (x Aᵀ)ᵀ: added after the loop, its addresses would live through it.
        rank = tl.arange(0, LORA_RANK)
        lora_b_ptrs = lora_b_ptr + (first_n + rows).to(tl.int64)[:, None] * lora_rank + rank[None, :]
        lora_b = tl.load(lora_b_ptrs, mask=(rank < lora_rank)[None, :], other=0.0)
        small = load_transposed(small_ptr, rows_m, rank, M, lora_rank, lora_rank, 1, EVEN_M, False)
        total = tl.dot(lora_b, small, total, input_precision="ieee")
    if JOINED:
        # See `scale_tile_gemm`: without it every wgmma is waited for by itself. The other form spills with it.
        tl.assume(k_blocks > 0)
    for block in range(k_blocks):
        words = load_words(row_ptrs + block * BLOCK_WORDS, tl.arange(0, 16), BITS)
        levels = decode_words(words, table_ptr, table, BITS, DECODER, DTYPE)
        first = block * GROUPS if BLOCK <= KB else block // (BLOCK // KB)
        scales = _load_groups(scale_ptrs, first, shift_ptr, GROUPS, scale_ptr.dtype.element_ty, DTYPE)
        zeros = scales
        if HAS_ZERO:
            zeros = _load_groups(zero_ptrs, first, shift_ptr, GROUPS, zero_ptr.dtype.element_ty, DTYPE)
        if JOINED:
            weights = ()
            for position in tl.static_range(POSITIONS):
                weights = weights + (_weight(levels, scales, zeros, position, TOGETHER, HAS_ZERO),)
            k = block * KB + tl.arange(0, KB)
            x = load_transposed(x_ptr, rows_m, k, M, K, x_stride_m, x_stride_k, EVEN_M, EVEN_K)
            total = tl.dot(join_positions(weights, BLOCK_N, 16, BITS), x, total, input_precision="ieee")
        else:
            for position in tl.static_range(POSITIONS):
                weight = _weight(levels, scales, zeros, position, TOGETHER, HAS_ZERO)
                k = block * KB + position * 16 + tl.arange(0, 16)
                x = load_transposed(x_ptr, rows_m, k, M, K, x_stride_m, x_stride_k, EVEN_M, EVEN_K)
                total = tl.dot(weight, x, total, input_precision="ieee")
    store_transposed(y_ptr, bias_ptr, total, first_n, rows_m, M, N, y_stride_m, BLOCK_N, LEVEL_UNIT, HAS_BIAS)
