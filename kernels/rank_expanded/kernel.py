"""y_n = Σ_r B_nr · Σ_k level[code_nk] · P_rk with P = A ∘ x: exact integer sums, no scale tile, no product per weight.

Rounding recipe. Per rank and K chunk, P is rounded to 16-bit fixed point with step max|P| / 32512 and split into two
int8 parts, P = step · (256 hi + lo). Levels are the integers b - 64 of the 7-bit grid, or code - 2^(bits - 1).
Products and sums are exact in int32 (chunks of at most 512 inputs: 512 · 127 · 127 · 256 < 2^31); everything after is
fp32. A NaN or an infinity in x makes every output of that token NaN.
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.decode import decode_bytes, load_table, row_bytes
from lords_bench.kernels.common.layout import integer_columns_per_block, integer_tile_count, k_of_column, plane_count
from lords_bench.kernels.common.split_k import last_arrival, sum_partials
from lords_bench.kernels.common.tiles import local_rows, tiles_of

LARGEST_FIXED = tl.constexpr(32512.0)


@triton.jit
def _products(a_ptr, x_ptr, tile, columns, first_column, k_columns, first_rank, K, x_stride_k, BITS: tl.constexpr,
              DECODER: tl.constexpr, RANK: tl.constexpr, RANK_CHUNK: tl.constexpr):  # fmt: skip
    """P [RANK_CHUNK, columns] of one integer tile in fp32 with x made finite, and NaN if x was not, else 0."""
    k = k_of_column(first_column + columns, tile, BITS, DECODER)
    x = tl.load(x_ptr + k * x_stride_k, mask=k < K, other=0.0).to(tl.float32)
    finite = tl.where(tl.abs(x) < float("inf"), x, 0.0)
    ranks = first_rank + tl.arange(0, RANK_CHUNK)
    a_ptrs = a_ptr + (tile * RANK + ranks)[:, None] * k_columns + (first_column + columns)[None, :]
    a = tl.load(a_ptrs, mask=((first_column + columns) < k_columns)[None, :], other=0.0).to(tl.float32)
    return a * finite[None, :], tl.sum((x - finite) * 0.0, axis=0)


@triton.jit
def rank_expanded_kernel(
    packed_ptr, a_ptr, b_ptr, x_ptr, bias_ptr, y_ptr, partial_ptr, arrivals_ptr, table_ptr,
    M, N, K, tiles_per_program, x_stride_m, x_stride_k, y_stride_m,
    K_BLOCKS: tl.constexpr, RANK: tl.constexpr, RANK_CHUNK: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCKS_K: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr, EVEN_N: tl.constexpr,
    EVEN_GROUPS: tl.constexpr, EVEN_K: tl.constexpr,
    HAS_BIAS: tl.constexpr, LAST_SUMS: tl.constexpr, AT_ONCE: tl.constexpr, ZERO: tl.constexpr,
    LEVEL_UNIT: tl.constexpr,
):  # fmt: skip
    """A program keeps P of its K chunk and walks over N tiles. Grid: (K chunks, N groups, M).

    A level is (b - ZERO) · LEVEL_UNIT with b the decoder's byte.
    `packed_ptr` is the int8 view of the packed rows; `a_ptr` is A in column order (`operands.integer_tile_a`).
    """
    TILES: tl.constexpr = integer_tile_count(BITS, DECODER)
    PER_BLOCK: tl.constexpr = integer_columns_per_block(BITS, DECODER)
    BLOCK_BYTES: tl.constexpr = 32 * plane_count(BITS)
    split = tl.program_id(0)
    group = tl.program_id(1)
    token = tl.program_id(2)
    table = load_table(table_ptr, BITS, DECODER)
    columns = tl.arange(0, BLOCKS_K * PER_BLOCK)
    first_block = split * BLOCKS_K
    first_column = first_block * PER_BLOCK
    k_columns = K_BLOCKS * PER_BLOCK
    token_ptr = x_ptr + token.to(tl.int64) * x_stride_m

    high_parts = ()
    low_parts = ()
    steps = ()
    offsets = ()
    for first_rank in tl.static_range(0, RANK, RANK_CHUNK):
        largest = tl.zeros((RANK_CHUNK,), tl.float32)
        poison = 0.0
        for tile in tl.static_range(TILES):
            p, not_finite = _products(
                a_ptr, token_ptr, tile, columns, first_column, k_columns, first_rank, K, x_stride_k, BITS, DECODER,
                RANK, RANK_CHUNK,
            )  # fmt: skip
            largest = tl.maximum(largest, tl.max(tl.abs(p), axis=1))
            poison += not_finite
        step = tl.maximum(largest, 1e-30) / LARGEST_FIXED
        column_sum = tl.zeros((RANK_CHUNK,), tl.int32)
        for tile in tl.static_range(TILES):
            p, not_finite = _products(
                a_ptr, token_ptr, tile, columns, first_column, k_columns, first_rank, K, x_stride_k, BITS, DECODER,
                RANK, RANK_CHUNK,
            )  # fmt: skip
            fixed = tl.floor(p / step[:, None] + 0.5).to(tl.int32)
            high = (fixed + 128) >> 8
            column_sum += tl.sum(fixed, axis=1)
            high_parts = high_parts + (tl.trans(high.to(tl.int8)),)
            low_parts = low_parts + (tl.trans((fixed - (high << 8)).to(tl.int8)),)
        steps = steps + (step + poison,)
        offsets = offsets + (column_sum * -ZERO,)

    ranks = tl.arange(0, RANK_CHUNK)
    # B through a product with the identity: its load is pipelined and lands in the accumulator's layout.
    identity = tl.where(ranks[:, None] == ranks[None, :], 1.0, 0.0).to(b_ptr.dtype.element_ty)
    row_stride = row_bytes(K_BLOCKS, BITS)
    # Columns past the last K block meet P = 0; their codes are read from it again.
    code_columns = columns
    if not EVEN_K:
        code_columns = tl.minimum(columns // PER_BLOCK, K_BLOCKS - 1 - first_block) * PER_BLOCK + columns % PER_BLOCK
    first_n = group * tiles_per_program * BLOCK_N
    # Carried from turn to turn, because an address made from the turn's number costs a 64-bit product each time.
    tile_ptr = packed_ptr + first_n.to(tl.int64) * row_stride + first_block * BLOCK_BYTES
    b_tile_ptr = b_ptr + first_n.to(tl.int64) * RANK
    y_tile_ptr = partial_ptr + (split.to(tl.int64) * M + token) * N + first_n
    tiles = tiles_of(group, tiles_per_program, N, BLOCK_N, EVEN_GROUPS)
    for _ in range(tiles):
        rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
        levels = decode_bytes(tile_ptr + (rows * row_stride)[:, None], code_columns, table_ptr, table, BITS, DECODER)
        for chunk in tl.static_range(RANK // RANK_CHUNK):
            b = tl.load(b_tile_ptr + rows[:, None] * RANK + (chunk * RANK_CHUNK + ranks)[None, :])
            high_sum = tl.zeros((BLOCK_N, RANK_CHUNK), tl.int32)
            low_sum = tl.zeros((BLOCK_N, RANK_CHUNK), tl.int32) + offsets[chunk][None, :]
            for tile in tl.static_range(TILES):
                high_sum = tl.dot(levels[tile], high_parts[chunk * TILES + tile], high_sum, out_dtype=tl.int32)
                low_sum = tl.dot(levels[tile], low_parts[chunk * TILES + tile], low_sum, out_dtype=tl.int32)
            exact = (high_sum << 8) + low_sum
            part = tl.sum(exact.to(tl.float32) * steps[chunk][None, :] * tl.dot(b, identity), axis=1)
            if chunk == 0:
                y = part
            else:
                y += part
        row = tl.arange(0, BLOCK_N)
        # Triton 3.6 on sm_90: the mask makes 3 bits spill, and leaving it out costs 10 % more instructions at 4 bits.
        if EVEN_N and BITS == 3:
            tl.store(y_tile_ptr + row, y)
        else:
            tl.store(y_tile_ptr + row, y, mask=row < N - first_n)
        first_n += BLOCK_N
        tile_ptr += BLOCK_N * row_stride
        b_tile_ptr += BLOCK_N * RANK
        y_tile_ptr += BLOCK_N

    if LAST_SUMS:
        if last_arrival(arrivals_ptr, token * tl.num_programs(1) + group, tl.num_programs(0)):
            sum_partials(
                partial_ptr, y_ptr, bias_ptr, tl.zeros((BLOCK_N,), tl.int32) + token,
                group * tiles_per_program * BLOCK_N + tl.arange(0, BLOCK_N), tiles, BLOCK_N,
                tl.num_programs(0), M, N, y_stride_m, LEVEL_UNIT, HAS_BIAS, AT_ONCE, BLOCK_N,
            )  # fmt: skip
