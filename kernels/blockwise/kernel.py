"""y_MN = x_MK @ W_NK^T with block-wise scales: W = level · scale, or (level - zero point) · scale.

NF4, NF3, NF2, learned levels, int4 with zero points.

The levels themselves are the tensor core's operand, exact on the 7-bit grid; the sum of a block is multiplied with the
block's scale in fp32. So the baseline rounds less than a kernel that scales each weight, and does less work per weight:
it is the strongest honest form, not a strawman. A zero point is taken out as zero · Σ_block x.

K-stationary like the LoRDS kernel: a program keeps its K chunk of x and walks over N tiles.
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.decode import decode_words, load_joined, load_table, load_words
from lords_bench.kernels.common.layout import k_block, plane_count, position_count
from lords_bench.kernels.common.split_k import last_arrival, sum_partials
from lords_bench.kernels.common.tiles import load_transposed, local_rows, tiles_of


@triton.jit
def blockwise_kernel(
    packed_ptr, scale_ptr, zero_ptr, x_ptr, bias_ptr, y_ptr, partial_ptr, arrivals_ptr, table_ptr,
    M, N, K, tiles_per_program, x_stride_m, x_stride_k, y_stride_m,
    K_BLOCKS: tl.constexpr, SCALES_PER_ROW: tl.constexpr, BLOCK: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCKS_K: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr, LEVEL_UNIT: tl.constexpr,
    HAS_ZERO: tl.constexpr, EVEN_N: tl.constexpr, EVEN_GROUPS: tl.constexpr, EVEN_K: tl.constexpr,
    HAS_BIAS: tl.constexpr, LAST_SUMS: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Grid: (K chunks, N groups, M tiles). BLOCK inputs share a scale; it divides a K block or is a multiple of one."""
    KB: tl.constexpr = k_block(BITS)
    PLANES: tl.constexpr = plane_count(BITS)
    POSITIONS: tl.constexpr = position_count(BITS)
    # Positions whose sums share a scale: a whole K block if BLOCK is larger.
    TOGETHER: tl.constexpr = POSITIONS if BLOCK >= KB else BLOCK // 16
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    split = tl.program_id(0)
    group = tl.program_id(1)
    rows_m = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
    lane = tl.arange(0, 16)
    table = load_table(table_ptr, BITS, DECODER)

    x_tiles = ()
    for block in tl.static_range(BLOCKS_K):
        for position in tl.static_range(POSITIONS):
            k = (split * BLOCKS_K + block) * KB + position * 16 + lane
            x_tiles = x_tiles + (load_transposed(x_ptr, rows_m, k, M, K, x_stride_m, x_stride_k, False, EVEN_K),)

    row_words = K_BLOCKS * (16 * PLANES)
    first_n = group * tiles_per_program * BLOCK_N
    # Carried from turn to turn, because an address made from the turn's number costs a 64-bit product each time.
    tile_ptr = packed_ptr + first_n.to(tl.int64) * row_words
    scale_tile_ptr = scale_ptr + first_n.to(tl.int64) * SCALES_PER_ROW
    zero_tile_ptr = zero_ptr + first_n.to(tl.int64) * SCALES_PER_ROW
    y_tile_ptr = partial_ptr + split.to(tl.int64) * M * N + first_n
    row = tl.arange(0, BLOCK_N)
    y_offsets = rows_m.to(tl.int64)[None, :] * N + row[:, None]
    tiles = tiles_of(group, tiles_per_program, N, BLOCK_N, EVEN_GROUPS)
    for _ in range(tiles):
        rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
        row_ptrs = tile_ptr + (rows * row_words)[:, None]
        scale_ptrs = scale_tile_ptr + rows * SCALES_PER_ROW
        zero_ptrs = zero_tile_ptr + rows * SCALES_PER_ROW
        total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
        for block in tl.static_range(BLOCKS_K):
            # A K block past the end is the last one read again: it meets x = 0.
            k_of_block = split * BLOCKS_K + block
            if not EVEN_K:
                k_of_block = tl.minimum(k_of_block, K_BLOCKS - 1)
            words = load_words(row_ptrs + k_of_block * (16 * PLANES), lane, BITS)
            levels = decode_words(words, table_ptr, table, BITS, DECODER, DTYPE)
            for first in tl.static_range(0, POSITIONS, TOGETHER):
                part = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
                for position in tl.static_range(first, first + TOGETHER):
                    part = tl.dot(levels[position], x_tiles[block * POSITIONS + position], part, input_precision="ieee")
                number = (k_of_block * KB + first * 16) // BLOCK
                if HAS_ZERO:
                    inputs = tl.zeros((BLOCK_M,), tl.float32)
                    for position in tl.static_range(first, first + TOGETHER):
                        inputs += tl.sum(x_tiles[block * POSITIONS + position].to(tl.float32), axis=0)
                    zero = tl.load(zero_ptrs + number).to(tl.float32)
                    part -= zero[:, None] * inputs[None, :]
                total += part * tl.load(scale_ptrs + number).to(tl.float32)[:, None]
        tl.store(y_tile_ptr + y_offsets, total, mask=(row < N - first_n)[:, None] & (rows_m < M)[None, :])
        first_n += BLOCK_N
        tile_ptr += BLOCK_N * row_words
        scale_tile_ptr += BLOCK_N * SCALES_PER_ROW
        zero_tile_ptr += BLOCK_N * SCALES_PER_ROW
        y_tile_ptr += BLOCK_N

    if LAST_SUMS:
        if last_arrival(arrivals_ptr, tl.program_id(2) * tl.num_programs(1) + group, tl.num_programs(0)):
            pair = tl.arange(0, BLOCK_M * BLOCK_N)
            sum_partials(
                partial_ptr, y_ptr, bias_ptr, tl.program_id(2) * BLOCK_M + pair // BLOCK_N,
                group * tiles_per_program * BLOCK_N + pair % BLOCK_N, tiles, BLOCK_N, tl.num_programs(0),
                M, N, y_stride_m, LEVEL_UNIT, HAS_BIAS, AT_ONCE, BLOCK_M * BLOCK_N,
            )  # fmt: skip


@triton.jit
def blockwise_dequantize_kernel(
    packed_ptr, scale_ptr, zero_ptr, w_ptr, table_ptr, N, K, k_blocks, scales_per_row,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr, DTYPE: tl.constexpr,
    LEVEL_UNIT: tl.constexpr, HAS_ZERO: tl.constexpr, EVEN_N: tl.constexpr,
):  # fmt: skip
    """Dense W, each element computed in float32 and rounded once. Grid: (row tiles, K blocks)."""
    KB: tl.constexpr = k_block(BITS)
    BLOCK_WORDS: tl.constexpr = 16 * plane_count(BITS)
    first_n = tl.program_id(0) * BLOCK_N
    block = tl.program_id(1)
    table = load_table(table_ptr, BITS, DECODER)
    rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
    row_words = k_blocks * BLOCK_WORDS
    tile_ptr = packed_ptr + first_n.to(tl.int64) * row_words + block * BLOCK_WORDS
    levels = load_joined(tile_ptr + (rows * row_words)[:, None], table_ptr, table, BLOCK_N, 1, BITS, DECODER, DTYPE)

    # A scale per group of SPAN columns, spread over them by a reshape: read per column they would be KB loads a row.
    SPAN: tl.constexpr = min(KB, BLOCK)
    number = (block * KB + tl.arange(0, KB // SPAN) * SPAN) // BLOCK
    numbers = rows[:, None] * scales_per_row + number[None, :]
    first_scale = first_n.to(tl.int64) * scales_per_row
    w = tl.reshape(levels, (BLOCK_N, KB // SPAN, SPAN)).to(tl.float32)
    if HAS_ZERO:
        w -= tl.load(zero_ptr + first_scale + numbers).to(tl.float32)[:, :, None]
    w *= (tl.load(scale_ptr + first_scale + numbers).to(tl.float32) * LEVEL_UNIT)[:, :, None]
    w = tl.reshape(w, (BLOCK_N, KB))

    k = block * KB + tl.arange(0, KB)
    w_ptrs = w_ptr + first_n.to(tl.int64) * K + (tl.arange(0, BLOCK_N)[:, None] * K + k[None, :])
    inside = ((first_n + tl.arange(0, BLOCK_N)) < N)[:, None] & (k < K)[None, :]
    tl.store(w_ptrs, w.to(w_ptr.dtype.element_ty), mask=inside)
