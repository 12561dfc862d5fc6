"""y_MN = x_MK @ W_NK^T, one output tile per program, weights decoded into the tensor core's operand registers.

Same rounding as the small-M kernel: w = level · round(S), sums in fp32. Two forms of the same loop:

- `split_gemm_kernel`, for mma.sync: one S product and one W product per position (16 inputs), no join;
- `joined_gemm_kernel`, for Hopper's wgmma: positions joined, one S product and one W product per K block with W as the
  register operand. (On mma.sync, Triton 3.6 mislays the operand layout behind a join.)
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.decode import decode_words, join_eight, load_table, load_words, tile_k
from lords_bench.kernels.common.layout import k_block, plane_count, position_count
from lords_bench.kernels.common.results import store_transposed
from lords_bench.kernels.common.tiles import load_a, load_b, load_transposed, local_lanes, local_rows


@triton.jit
def split_gemm_kernel(
    packed_ptr, a_ptr, b_ptr, x_ptr, bias_ptr, y_ptr, table_ptr,
    M, N, K, k_blocks, x_stride_m, x_stride_k, y_stride_m,
    RANK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCKS_K: tl.constexpr, BITS: tl.constexpr,
    DECODER: tl.constexpr, LEVEL_UNIT: tl.constexpr, SCALE_IN_FP16: tl.constexpr, EVEN_M: tl.constexpr,
    EVEN_N: tl.constexpr, EVEN_K: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Grid: (N tiles, M tiles)."""
    BLOCK_WORDS: tl.constexpr = 16 * plane_count(BITS)
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    first_n = tl.program_id(0) * BLOCK_N
    rows_m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    table = load_table(table_ptr, BITS, DECODER)
    rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
    row_words = k_blocks * BLOCK_WORDS
    row_ptrs = packed_ptr + first_n.to(tl.int64) * row_words + (rows * row_words)[:, None]
    b = load_b(b_ptr, first_n + rows, RANK)
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for first_block in range(0, k_blocks, BLOCKS_K):
        lanes = local_lanes(first_block, k_blocks, BLOCKS_K, EVEN_K)
        words = load_words(row_ptrs + first_block * BLOCK_WORDS, lanes, BITS)
        levels = decode_words(words, table_ptr, table, BITS, DECODER, DTYPE)
        for position in tl.static_range(position_count(BITS)):
            k = first_block * k_block(BITS) + tile_k(BLOCKS_K, position, BITS)
            a = load_a(a_ptr, k, K, RANK, EVEN_K)
            x = load_transposed(x_ptr, rows_m, k, M, K, x_stride_m, x_stride_k, EVEN_M, EVEN_K)
            if SCALE_IN_FP16:
                scale = tl.dot(b, a, out_dtype=tl.float16)
            else:
                scale = tl.dot(b, a, input_precision="ieee").to(DTYPE)
            total = tl.dot(levels[position] * scale, x, total, input_precision="ieee")
    store_transposed(y_ptr, bias_ptr, total, first_n, rows_m, M, N, y_stride_m, BLOCK_N, LEVEL_UNIT, HAS_BIAS)


@triton.jit
def joined_gemm_kernel(
    packed_ptr, a_ptr, b_ptr, x_ptr, bias_ptr, y_ptr, table_ptr,
    M, N, K, k_blocks, x_stride_m, x_stride_k, y_stride_m,
    RANK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCKS_K: tl.constexpr, BITS: tl.constexpr,
    DECODER: tl.constexpr, LEVEL_UNIT: tl.constexpr, SCALE_IN_FP16: tl.constexpr, EVEN_M: tl.constexpr,
    EVEN_N: tl.constexpr, EVEN_K: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Grid: (N tiles, M tiles). BLOCKS_K is 1: a K block is the K step."""
    BLOCK_WORDS: tl.constexpr = 16 * plane_count(BITS)
    KB: tl.constexpr = k_block(BITS)
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    first_n = tl.program_id(0) * BLOCK_N
    rows_m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    table = load_table(table_ptr, BITS, DECODER)
    rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
    row_words = k_blocks * BLOCK_WORDS
    row_ptrs = packed_ptr + first_n.to(tl.int64) * row_words + (rows * row_words)[:, None]
    b = load_b(b_ptr, first_n + rows, RANK)
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    # A loop that may not run at all defines `total` beside the products, and the assembler then waits for each of them.
    tl.assume(k_blocks > 0)
    for block in range(k_blocks):
        words = load_words(row_ptrs + block * BLOCK_WORDS, tl.arange(0, 16), BITS)
        levels = decode_words(words, table_ptr, table, BITS, DECODER, DTYPE)
        for first in tl.static_range(0, position_count(BITS), 8):
            k = block * KB + first * 16 + tl.arange(0, 128)
            a = load_a(a_ptr, k, K, RANK, EVEN_K)
            x = load_transposed(x_ptr, rows_m, k, M, K, x_stride_m, x_stride_k, EVEN_M, EVEN_K)
            if SCALE_IN_FP16:
                scale = tl.dot(b, a, out_dtype=tl.float16)
            else:
                scale = tl.dot(b, a, input_precision="ieee").to(DTYPE)
            total = tl.dot(join_eight(levels, first, BLOCK_N) * scale, x, total, input_precision="ieee")
    store_transposed(y_ptr, bias_ptr, total, first_n, rows_m, M, N, y_stride_m, BLOCK_N, LEVEL_UNIT, HAS_BIAS)
