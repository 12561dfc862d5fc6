"""Dense W_NK = levels[codes_NK] · (B_NR @ A_RK), each element computed in float32 and rounded once."""

import triton
import triton.language as tl

from lords_bench.kernels.common.decode import load_joined, load_table
from lords_bench.kernels.common.layout import k_block, plane_count
from lords_bench.kernels.common.tiles import load_a, load_b, local_rows, scale_in_chunks


@triton.jit
def dequantize_kernel(
    packed_ptr, a_ptr, b_ptr, w_ptr, table_ptr, N, K, k_blocks,
    RANK: tl.constexpr, BLOCK_N: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr, DTYPE: tl.constexpr,
    LEVEL_UNIT: tl.constexpr, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    """One program writes BLOCK_N rows of one K block. Grid: (row tiles, K blocks)."""
    KB: tl.constexpr = k_block(BITS)
    BLOCK_WORDS: tl.constexpr = 16 * plane_count(BITS)
    first_n = tl.program_id(0) * BLOCK_N
    block = tl.program_id(1)
    table = load_table(table_ptr, BITS, DECODER)
    rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
    row_words = k_blocks * BLOCK_WORDS
    tile_ptr = packed_ptr + first_n.to(tl.int64) * row_words + block * BLOCK_WORDS
    levels = load_joined(tile_ptr + (rows * row_words)[:, None], table_ptr, table, BLOCK_N, 1, BITS, DECODER, DTYPE)

    k = block * KB + tl.arange(0, KB)
    if RANK > 16 and a_ptr.dtype.element_ty == tl.float32:
        scale = scale_in_chunks(a_ptr, b_ptr, first_n + rows, k, K, RANK)
    else:
        b = load_b(b_ptr, first_n + rows, RANK)
        a = load_a(a_ptr, k, K, RANK, EVEN_K)
        scale = tl.dot(b, a, input_precision="ieee")
    w = levels.to(tl.float32) * (scale * LEVEL_UNIT)

    w_ptrs = w_ptr + first_n.to(tl.int64) * K + (tl.arange(0, BLOCK_N)[:, None] * K + k[None, :])
    inside = ((first_n + tl.arange(0, BLOCK_N)) < N)[:, None] & (k < K)[None, :]
    tl.store(w_ptrs, w.to(w_ptr.dtype.element_ty), mask=inside)
