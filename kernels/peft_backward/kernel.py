"""Gradients of y = x @ W^T, W = V ∘ (B A), V = levels[codes] frozen.

    dS = (dYᵀ X) ∘ V        dB = dS Aᵀ        dA = Bᵀ dS        dX = dY W

`factor_gradients_kernel`: one program owns a tile of dS. It sums dYᵀX over all tokens in fp32 registers, multiplies
with the decoded levels, and contracts the tile with A and with B; dS is never stored. It is rounded once, to bfloat16
(float16 could overflow), or not at all for float32 activations. Tiles add up in fp32: into partial buffers summed in a
fixed order, or by atomics.

`input_gradient_kernel`: the tile loop of the GEMM with the roles of N and K exchanged; W passes shared memory once.
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.decode import load_joined, load_table
from lords_bench.kernels.common.layout import k_block, plane_count
from lords_bench.kernels.common.tiles import load_a, load_b, local_rows, scale_in_chunks


@triton.jit
def _load_tile(ptr, rows, columns, ROWS, COLUMNS, stride_row, stride_column):
    """Tile [len(rows), len(columns)], zero outside."""
    ptrs = ptr + rows.to(tl.int64)[:, None] * stride_row + columns[None, :] * stride_column
    return tl.load(ptrs, mask=(rows < ROWS)[:, None] & (columns < COLUMNS)[None, :], other=0.0)


@triton.jit
def factor_gradients_kernel(
    packed_ptr, dy_ptr, x_ptr, a_ptr, b_ptr, da_ptr, db_ptr, table_ptr,
    M, N, K, k_blocks, dy_stride_m, dy_stride_n, x_stride_m, x_stride_k,
    RANK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr,
    LEVEL_UNIT: tl.constexpr, EVEN_N: tl.constexpr, ATOMIC: tl.constexpr,
):  # fmt: skip
    """One program per tile of dS: BLOCK_N rows, one K block. Grid: (row tiles, K blocks).

    `da_ptr` is fp32 [row tiles, RANK, K] and `db_ptr` fp32 [K blocks, N, RANK]; with ATOMIC, zeroed [RANK, K] and
    [N, RANK].
    """
    KB: tl.constexpr = k_block(BITS)
    BLOCK_WORDS: tl.constexpr = 16 * plane_count(BITS)
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    GRADIENT: tl.constexpr = tl.bfloat16 if DTYPE != tl.float32 else tl.float32
    row_tile = tl.program_id(0)
    block = tl.program_id(1)
    first_n = row_tile * BLOCK_N
    rows_n = first_n + tl.arange(0, BLOCK_N)
    k = block * KB + tl.arange(0, KB)
    product = tl.zeros((BLOCK_N, KB), tl.float32)
    for first_m in range(0, M, BLOCK_M):
        rows_m = first_m + tl.arange(0, BLOCK_M)
        dy = _load_tile(dy_ptr, rows_m, rows_n, M, N, dy_stride_m, dy_stride_n)
        x = _load_tile(x_ptr, rows_m, k, M, K, x_stride_m, x_stride_k)
        product = tl.dot(tl.trans(dy), x, product, input_precision="ieee")

    table = load_table(table_ptr, BITS, DECODER)
    rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
    row_words = k_blocks * BLOCK_WORDS
    tile_ptr = packed_ptr + first_n.to(tl.int64) * row_words + block * BLOCK_WORDS
    levels = load_joined(tile_ptr + (rows * row_words)[:, None], table_ptr, table, BLOCK_N, 1, BITS, DECODER, DTYPE)
    gradient = (product * levels.to(tl.float32)).to(GRADIENT)

    # In float32 more ranks at once need more shared memory than an Ampere, a CDNA or an RDNA has, and long to compile.
    IN_FLOAT32: tl.constexpr = GRADIENT == tl.float32 or a_ptr.dtype.element_ty == tl.float32  # noqa: PLR1714 (Triton knows no `in`)
    AT_ONCE: tl.constexpr = 32 if RANK > 32 and IN_FLOAT32 else RANK
    for first_rank in range(0, RANK, AT_ONCE):
        ranks = first_rank + tl.arange(0, AT_ONCE)
        a_offsets = ranks[:, None] * K + k[None, :]
        a = tl.load(a_ptr + a_offsets, mask=(k < K)[None, :], other=0.0).to(GRADIENT)
        db = tl.dot(gradient, tl.trans(a), input_precision="ieee") * LEVEL_UNIT
        db_offsets = rows_n.to(tl.int64)[:, None] * RANK + ranks[None, :]
        b = tl.load(b_ptr + (first_n + rows)[:, None] * RANK + ranks[None, :]).to(GRADIENT)
        da = tl.dot(tl.trans(b), gradient, input_precision="ieee") * LEVEL_UNIT
        if ATOMIC:
            tl.atomic_add(db_ptr + db_offsets, db, mask=(rows_n < N)[:, None], sem="relaxed")
            tl.atomic_add(da_ptr + a_offsets, da, mask=(k < K)[None, :], sem="relaxed")
        else:
            tl.store(db_ptr + block.to(tl.int64) * N * RANK + db_offsets, db, mask=(rows_n < N)[:, None])
            tl.store(da_ptr + row_tile.to(tl.int64) * RANK * K + a_offsets, da, mask=(k < K)[None, :])


@triton.jit
def input_gradient_kernel(
    packed_ptr, dy_ptr, a_ptr, b_ptr, dx_ptr, table_ptr,
    M, N, K, k_blocks, dy_stride_m, dy_stride_n, dx_stride_m,
    RANK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr,
    LEVEL_UNIT: tl.constexpr, EVEN_N: tl.constexpr,
):  # fmt: skip
    """One program per BLOCK_M tokens and one K block of dX. Grid: (K blocks, M tiles)."""
    KB: tl.constexpr = k_block(BITS)
    BLOCK_WORDS: tl.constexpr = 16 * plane_count(BITS)
    DTYPE: tl.constexpr = dy_ptr.dtype.element_ty
    block = tl.program_id(0)
    rows_m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = block * KB + tl.arange(0, KB)
    table = load_table(table_ptr, BITS, DECODER)
    IN_CHUNKS: tl.constexpr = RANK > 64 and a_ptr.dtype.element_ty == tl.float32
    if not IN_CHUNKS:
        a = load_a(a_ptr, k, K, RANK, False)
    row_words = k_blocks * BLOCK_WORDS
    total = tl.zeros((BLOCK_M, KB), tl.float32)
    for first_n in range(0, N, BLOCK_N):
        rows = local_rows(first_n, N, BLOCK_N, EVEN_N)
        row_offsets = (first_n + rows).to(tl.int64) * row_words + block * BLOCK_WORDS
        levels = load_joined(packed_ptr + row_offsets[:, None], table_ptr, table, BLOCK_N, 1, BITS, DECODER, DTYPE)
        if IN_CHUNKS:
            scale = scale_in_chunks(a_ptr, b_ptr, first_n + rows, k, K, RANK)
        else:
            scale = tl.dot(load_b(b_ptr, first_n + rows, RANK), a, input_precision="ieee")
        dy = _load_tile(dy_ptr, rows_m, first_n + tl.arange(0, BLOCK_N), M, N, dy_stride_m, dy_stride_n)
        weight = levels * scale.to(DTYPE)
        total = tl.dot(dy, weight, total, input_precision="ieee")
    dx_ptrs = dx_ptr + rows_m.to(tl.int64)[:, None] * dx_stride_m + k[None, :]
    inside = (rows_m < M)[:, None] & (k < K)[None, :]
    tl.store(dx_ptrs, (total * LEVEL_UNIT).to(dx_ptr.dtype.element_ty), mask=inside)
