"""Packed codes to tiles of levels, inside a kernel. One abstraction, four decoders (`ptx.Decoder`).

`grid7`, `table16` and `uniform` are inline PTX for NVIDIA GPUs; `table` loads levels from a table in memory and is the
portable one (AMD, interpreter). The value of a code is `level / unit`: kernels multiply by `LEVEL_UNIT` once, on an
accumulator. Tiles come as a tuple, one tensor per position p; its column c is input (c div 16)·KB + 16 p + c mod 16.
"""

import triton
import triton.language as tl

from lords_bench.kernels.common.layout import k_block, plane_count, position_count
from lords_bench.kernels.common.ptx import (
    PTX_SOURCE,
    byte_asm,
    byte_constraints,
    operand_asm,
    operand_constraints,
    operands_per_call,
    table_word_count,
)


@triton.jit
def load_table(table_ptr, BITS: tl.constexpr, DECODER: tl.constexpr):
    """Table words of a PTX decoder, each a [1, 1] tensor; an empty tuple for the others.

    Every word stands 32 times in memory and is read at a lane-dependent address: from a uniform register each PRMT
    would first need a move, and a splat of a kernel argument stops the compiler from decoding in the operand's layout.
    """
    words = ()
    COUNT: tl.constexpr = table_word_count(BITS, DECODER)
    if COUNT > 0:
        zero = tl.arange(0, 1)[:, None] + tl.arange(0, 1)[None, :]
        lane = tl.inline_asm_elementwise("mov.u32 $0, %laneid;", "=r,r", (zero,), dtype=tl.int32, is_pure=True, pack=1)
        for i in tl.static_range(COUNT):
            words = words + (tl.load(table_ptr + i * 32 + lane),)
    return words


@triton.jit
def load_words(row_ptrs, lane_columns, BITS: tl.constexpr):
    """int16 words of every plane: a tuple of [rows, columns]; column c is lane c mod 16 of K block c div 16.

    Args:
        row_ptrs: [rows, 1] pointers to the first K block of each row.
        lane_columns: [columns] lane numbers, counted over K blocks.
        BITS: bits per code.
    """
    PLANES: tl.constexpr = plane_count(BITS)
    ptrs = row_ptrs + (lane_columns // 16 * (16 * PLANES) + lane_columns % 16)[None, :]
    words = ()
    for plane in tl.static_range(PLANES):
        words = words + (tl.load(ptrs + 16 * plane),)
    return words


@triton.jit
def code_at(words, position: tl.constexpr, BITS: tl.constexpr):
    """Codes (int32) of one position, by shifts and masks: the meaning that the PTX decoders must reproduce."""
    if BITS == 4:
        code = (words[position // 4] >> (4 * (position % 4))) & 15
    elif BITS == 2:
        code = (words[0] >> (2 * position)) & 3
    else:
        field: tl.constexpr = position % 8
        plane: tl.constexpr = position // 8
        low = (words[plane] >> (2 * field)) & 3
        high = (words[2] >> (4 * (field // 2) + 2 * plane + field % 2)) & 1
        code = low | (high << 2)
    return code.to(tl.int32)


@triton.jit
def _decode_call(operands, BITS: tl.constexpr, DECODER: tl.constexpr, DTYPE: tl.constexpr):
    tl.static_assert(PTX_SOURCE >= 0)
    COUNT: tl.constexpr = operands_per_call(BITS)
    CONSTRAINTS: tl.constexpr = operand_constraints(BITS, DECODER)
    if DTYPE == tl.float16:
        ASM: tl.constexpr = operand_asm(BITS, DECODER, "fp16")
        tiles = tl.inline_asm_elementwise(ASM, CONSTRAINTS, operands, dtype=(tl.float16,) * COUNT, is_pure=True, pack=2)
    else:
        ASM: tl.constexpr = operand_asm(BITS, DECODER, "bf16")
        tiles = tl.inline_asm_elementwise(
            ASM, CONSTRAINTS, operands, dtype=(tl.bfloat16,) * COUNT, is_pure=True, pack=2
        )
    return tiles


@triton.jit
def decode_words(words, table_ptr, table, BITS: tl.constexpr, DECODER: tl.constexpr, DTYPE: tl.constexpr):
    """Levels of every position, in DTYPE: a tuple of `position_count(BITS)` tensors shaped like the words."""
    if DECODER == "table":
        tiles = ()
        for position in tl.static_range(position_count(BITS)):
            tiles = tiles + (tl.load(table_ptr + code_at(words, position, BITS)).to(DTYPE),)
    elif BITS == 4:
        first = _decode_call((words[0],) + table, BITS, DECODER, DTYPE)
        tiles = first + _decode_call((words[1],) + table, BITS, DECODER, DTYPE)
    else:
        tiles = _decode_call(words + table, BITS, DECODER, DTYPE)
    return tiles


@triton.jit
def join_eight(tiles, FIRST: tl.constexpr, ROWS: tl.constexpr):
    """Tiles [ROWS, 16] of eight positions, from FIRST on, as one tile [ROWS, 128] in natural order of k.

    A relabelling only: no data moves where the compiler propagates the operand's layout through it (Triton 3.9).
    """
    even = tl.join(tl.join(tiles[FIRST], tiles[FIRST + 4]), tl.join(tiles[FIRST + 2], tiles[FIRST + 6]))
    odd = tl.join(tl.join(tiles[FIRST + 1], tiles[FIRST + 5]), tl.join(tiles[FIRST + 3], tiles[FIRST + 7]))
    return tl.reshape(tl.permute(tl.join(even, odd).reshape(ROWS, 16, 8), (0, 2, 1)), (ROWS, 128))


@triton.jit
def join_positions(tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BITS: tl.constexpr):
    """Position tiles [ROWS, COLUMNS] joined to one tile [ROWS, COLUMNS·positions] in natural order of k.

    A relabelling only: no data moves where the compiler propagates the operand's layout through it (Triton 3.9).
    """
    if BITS == 3:
        even = tl.join(
            tl.join(tl.join(tiles[0], tiles[8]), tl.join(tiles[4], tiles[12])),
            tl.join(tl.join(tiles[2], tiles[10]), tl.join(tiles[6], tiles[14])),
        )
        odd = tl.join(
            tl.join(tl.join(tiles[1], tiles[9]), tl.join(tiles[5], tiles[13])),
            tl.join(tl.join(tiles[3], tiles[11]), tl.join(tiles[7], tiles[15])),
        )
    else:
        even = tl.join(tl.join(tiles[0], tiles[4]), tl.join(tiles[2], tiles[6]))
        odd = tl.join(tl.join(tiles[1], tiles[5]), tl.join(tiles[3], tiles[7]))
    POSITIONS: tl.constexpr = position_count(BITS)
    blocks = tl.reshape(tl.join(even, odd), (ROWS, COLUMNS // 16, 16, POSITIONS))
    return tl.reshape(tl.permute(blocks, (0, 1, 3, 2)), (ROWS, COLUMNS * POSITIONS))


@triton.jit
def load_joined(
    row_ptrs, table_ptr, table, ROWS: tl.constexpr, BLOCKS_K: tl.constexpr, BITS: tl.constexpr, DECODER: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """Levels of BLOCKS_K whole K blocks in natural order of k: [ROWS, BLOCKS_K·KB]. `row_ptrs` as in `load_words`."""
    words = load_words(row_ptrs, tl.arange(0, BLOCKS_K * 16), BITS)
    return join_positions(decode_words(words, table_ptr, table, BITS, DECODER, DTYPE), ROWS, BLOCKS_K * 16, BITS)


@triton.jit
def decode_bytes(
    row_ptrs, columns, table_ptr, table, BITS: tl.constexpr, DECODER: tl.constexpr,
):  # fmt: skip
    """Levels as int8, for integer tensor cores: a tuple of `integer_tile_count` tensors.

    They are points b of the 7-bit grid, or with `uniform` the codes.

    Args:
        row_ptrs: [rows, 1] int8 pointers to the first K block of each row.
        columns: [columns] as `k_of_column` counts them.
        table_ptr: int8 levels, for the portable decoder.
        table: table words, for the PTX decoder.
        BITS: bits per code.
        DECODER: `grid7`, `uniform` or `table`.
    """
    if DECODER == "table":
        row_words = row_ptrs.to(tl.pointer_type(tl.int16), bitcast=True)
        words = load_words(row_words, columns, BITS)
        tiles = ()
        for position in tl.static_range(position_count(BITS)):
            tiles = tiles + (tl.load(table_ptr + code_at(words, position, BITS)),)
    else:
        tl.static_assert(PTX_SOURCE >= 0)
        COUNT: tl.constexpr = 8 if BITS == 3 else (2 if BITS == 4 else 4)
        ASM: tl.constexpr = byte_asm(BITS, DECODER)
        CONSTRAINTS: tl.constexpr = byte_constraints(BITS, DECODER)
        if BITS == 3:
            ptrs = row_ptrs + (columns // 32 * 96 + columns % 32)[None, :]
            words = (tl.load(ptrs), tl.load(ptrs + 32), tl.load(ptrs + 64))
        else:
            words = (tl.load(row_ptrs + columns[None, :]),)
        tiles = tl.inline_asm_elementwise(
            ASM, CONSTRAINTS, words + table, dtype=(tl.int8,) * COUNT, is_pure=True, pack=4
        )
    return tiles


@triton.jit
def row_bytes(k_blocks, BITS: tl.constexpr):
    return k_blocks * (32 * plane_count(BITS))


@triton.jit
def tile_k(BLOCKS_K: tl.constexpr, position, BITS: tl.constexpr):
    """Inputs, counted from the first K block of the tile, that the columns of a position tile stand for."""
    column = tl.arange(0, BLOCKS_K * 16)
    return column // 16 * k_block(BITS) + position * 16 + column % 16
