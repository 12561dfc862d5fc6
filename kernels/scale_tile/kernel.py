"""y_MN = x_MK @ W_NK^T for small M, weights decoded into the tensor core's operand registers.

Per N tile and position: S = B·A by tensor core (fp32), w = level · round(S), accumulated with x in fp32. The fragment
layout of an MMA result equals that of an MMA left operand, so W never passes through shared memory.
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.decode import decode_words, load_table, load_words, tile_k
from lords_bench.kernels.common.layout import k_block, plane_count, position_count
from lords_bench.kernels.common.split_k import last_arrival, sum_partials
from lords_bench.kernels.common.tiles import load_a, load_b, load_transposed, local_lanes, local_rows, tiles_of


@triton.jit
def scale_tile_kernel(
    packed_ptr, a_ptr, b_ptr, x_ptr, bias_ptr, y_ptr, partial_ptr, arrivals_ptr, table_ptr,
    M, N, K, tiles_per_program, x_stride_m, x_stride_k, y_stride_m,
    K_BLOCKS: tl.constexpr, RANK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCKS_K: tl.constexpr,
    BITS: tl.constexpr, DECODER: tl.constexpr, LEVEL_UNIT: tl.constexpr, SCALE_IN_FP16: tl.constexpr,
    EVEN_N: tl.constexpr, EVEN_GROUPS: tl.constexpr, EVEN_K: tl.constexpr, HAS_BIAS: tl.constexpr,
    LAST_SUMS: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """A program keeps its K chunk of A and x and walks over N tiles. Grid: (K chunks, N groups, M tiles)."""
    PLANES: tl.constexpr = plane_count(BITS)
    POSITIONS: tl.constexpr = position_count(BITS)
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    split = tl.program_id(0)
    group = tl.program_id(1)
    rows_m = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
    table = load_table(table_ptr, BITS, DECODER)
    first_block = split * BLOCKS_K

    a_tiles = ()
    x_tiles = ()
    for position in tl.static_range(POSITIONS):
        k = first_block * k_block(BITS) + tile_k(BLOCKS_K, position, BITS)
        a_tiles = a_tiles + (load_a(a_ptr, k, K, RANK, EVEN_K),)
        x_tiles = x_tiles + (load_transposed(x_ptr, rows_m, k, M, K, x_stride_m, x_stride_k, False, EVEN_K),)

    row_words = K_BLOCKS * (16 * PLANES)
    lanes = local_lanes(first_block, K_BLOCKS, BLOCKS_K, EVEN_K)
    first_n = group * tiles_per_program * BLOCK_N
    # Carried from turn to turn, because an address made from the turn's number costs a 64-bit product each time.
    tile_ptr = packed_ptr + first_n.to(tl.int64) * row_words + first_block * (16 * PLANES)
    b_tile_ptr = b_ptr + first_n.to(tl.int64) * RANK
    y_tile_ptr = partial_ptr + split.to(tl.int64) * M * N + first_n
    row = tl.arange(0, BLOCK_N)
    y_offsets = rows_m.to(tl.int64)[None, :] * N + row[:, None]
    tiles = tiles_of(group, tiles_per_program, N, BLOCK_N, EVEN_GROUPS)
    for _ in range(tiles):
        rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
        b = load_b(b_tile_ptr, rows, RANK)
        words = load_words(tile_ptr + (rows * row_words)[:, None], lanes, BITS)
        levels = decode_words(words, table_ptr, table, BITS, DECODER, DTYPE)
        total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
        for position in tl.static_range(POSITIONS):
            if SCALE_IN_FP16:
                scale = tl.dot(b, a_tiles[position], out_dtype=tl.float16)
            else:
                scale = tl.dot(b, a_tiles[position], input_precision="ieee").to(DTYPE)
            total = tl.dot(levels[position] * scale, x_tiles[position], total, input_precision="ieee")
        tl.store(y_tile_ptr + y_offsets, total, mask=(row < N - first_n)[:, None] & (rows_m < M)[None, :])
        first_n += BLOCK_N
        tile_ptr += BLOCK_N * row_words
        b_tile_ptr += BLOCK_N * RANK
        y_tile_ptr += BLOCK_N

    if LAST_SUMS:
        if last_arrival(arrivals_ptr, tl.program_id(2) * tl.num_programs(1) + group, tl.num_programs(0)):
            pair = tl.arange(0, BLOCK_M * BLOCK_N)
            sum_partials(
                partial_ptr, y_ptr, bias_ptr, tl.program_id(2) * BLOCK_M + pair // BLOCK_N,
                group * tiles_per_program * BLOCK_N + pair % BLOCK_N, tiles, BLOCK_N, tl.num_programs(0),
                M, N, y_stride_m, LEVEL_UNIT, HAS_BIAS, AT_ONCE, BLOCK_M * BLOCK_N,
            )  # fmt: skip
