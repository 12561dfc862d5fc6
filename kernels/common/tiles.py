"""Loads that several kernels share. Rows and K blocks past the end are read again from the last one, not masked.

A repeated row is never stored, and a repeated K block meets A = 0 and x = 0, so only A and x carry masks; the loads of
codes, which are the many, stay plain. `EVEN_N` and `EVEN_K` say at compile time that no tile is ragged, `EVEN_GROUPS`
that every program has equally many of them.
"""

import triton
import triton.language as tl


@triton.jit
def local_rows(first_n, N, BLOCK_N: tl.constexpr, EVEN_N: tl.constexpr):
    """Row numbers of a tile, counted from `first_n`, repeated at row N - 1."""
    rows = tl.arange(0, BLOCK_N)
    if not EVEN_N:
        rows = tl.minimum(rows, N - 1 - first_n)
    return rows


@triton.jit
def tiles_of(group, tiles_per_program, N, BLOCK_N: tl.constexpr, EVEN_GROUPS: tl.constexpr):
    """How many N tiles a program walks over: the last one has what is left, rather than tiles past the end."""
    tiles = tiles_per_program
    if not EVEN_GROUPS:
        tiles = tl.minimum(tiles_per_program, tl.cdiv(N, BLOCK_N) - group * tiles_per_program)
    return tiles


@triton.jit
def local_lanes(first_block, k_blocks, BLOCKS_K: tl.constexpr, EVEN_K: tl.constexpr):
    """Lane columns (as `load_words` counts them) of a tile's K blocks, repeated at the last K block of the row."""
    lanes = tl.arange(0, BLOCKS_K * 16)
    if not EVEN_K:
        lanes = tl.minimum(lanes // 16, k_blocks - 1 - first_block) * 16 + lanes % 16
    return lanes


@triton.jit
def load_a(a_ptr, k, K, RANK: tl.constexpr, EVEN_K: tl.constexpr):
    """A tile [RANK, len(k)], zero where k ≥ K."""
    ptrs = a_ptr + tl.arange(0, RANK)[:, None] * K + k[None, :]
    if EVEN_K:
        a = tl.load(ptrs)
    else:
        a = tl.load(ptrs, mask=(k < K)[None, :], other=0.0)
    return a


@triton.jit
def load_b(b_ptr, rows_n, RANK: tl.constexpr):
    """B tile [len(rows_n), RANK]."""
    return tl.load(b_ptr + rows_n[:, None] * RANK + tl.arange(0, RANK)[None, :])


@triton.jit
def scale_in_chunks(a_ptr, b_ptr, rows_n, k, K, RANK: tl.constexpr):
    """S tile [len(rows_n), len(k)] in float32, zero where k ≥ K, from 16 ranks at a time.

    Products of float32 have no tensor core: of all ranks at once their operands would lie in local memory, and at rank
    128 need more shared memory than an Ampere has.
    """
    scale = tl.zeros((rows_n.shape[0], k.shape[0]), tl.float32)
    for first_rank in range(0, RANK, 16):
        ranks = first_rank + tl.arange(0, 16)
        b = tl.load(b_ptr + rows_n[:, None] * RANK + ranks[None, :])
        a = tl.load(a_ptr + ranks[:, None] * K + k[None, :], mask=k[None, :] < K, other=0.0)
        scale = tl.dot(b, a, scale, input_precision="ieee")
    return scale


@triton.jit
def load_transposed(
    x_ptr, rows_m, columns, M, COLUMNS, stride_m, stride_column, EVEN_M: tl.constexpr, EVEN_COLUMNS: tl.constexpr
):
    """Tile [len(columns), len(rows_m)] of a matrix of M rows, zero outside."""
    ptrs = x_ptr + rows_m.to(tl.int64)[None, :] * stride_m + columns[:, None] * stride_column
    if EVEN_M and EVEN_COLUMNS:
        tile = tl.load(ptrs)
    elif EVEN_COLUMNS:
        tile = tl.load(ptrs, mask=(rows_m < M)[None, :], other=0.0)
    else:
        tile = tl.load(ptrs, mask=(columns < COLUMNS)[:, None] & (rows_m < M)[None, :], other=0.0)
    return tile
