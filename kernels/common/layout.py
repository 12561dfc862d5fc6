"""The packed format as kernels see it: constants at compile time, and the byte order of the integer path.

The format itself is `lords_bench.reference.packing`; a test ties both together. Nothing here touches memory.
"""

import triton
import triton.language as tl

LANES = 16


@triton.constexpr_function
def k_block(bits: int) -> int:
    """Inputs per K block: 128, at 3 bits 256."""
    return 256 if bits == 3 else 128


@triton.constexpr_function
def plane_count(bits: int) -> int:
    """Planes of 16 int16 lanes per K block."""
    return {4: 2, 3: 3, 2: 1}[bits]


@triton.constexpr_function
def position_count(bits: int) -> int:
    """Positions per lane: tiles of 16 consecutive inputs in a K block."""
    return 16 if bits == 3 else 8


@triton.constexpr_function
def integer_tile_count(bits: int, decoder: str) -> int:
    """Tiles of levels that one tile of packed data decodes to on the integer path."""
    if decoder == "table":
        return 16 if bits == 3 else 8
    return {4: 2, 3: 8, 2: 4}[bits]


@triton.constexpr_function
def integer_columns_per_block(bits: int, decoder: str) -> int:
    """Columns of one such tile per K block."""
    return k_block(bits) // integer_tile_count(bits, decoder)


@triton.jit
def k_of_column(column, tile, BITS: tl.constexpr, DECODER: tl.constexpr):
    """Input index k whose level stands in `column` of integer tile number `tile`.

    The portable decoder yields positions in natural order. `grid7` looks up the eight nibbles of a 32-bit word (lanes
    2g and 2g + 1) at once: tile 2q + h holds selector set q of lane 2g + h in bytes 4g … 4g + 3. `uniform` masks bytes:
    byte c of a row is half c mod 2 of lane c div 2, and a tile has one of the fields of every half lane.
    Also valid on the host as `k_of_column.fn`, with torch tensors.
    """
    if DECODER == "table":
        k = column // 16 * (256 if BITS == 3 else 128) + tile * 16 + column % 16
    elif DECODER == "uniform":
        lane = column // 2
        half = column % 2
        if BITS == 4:
            k = lane // 32 * 128 + (lane // 16 % 2 * 4 + half * 2 + tile) * 16 + lane % 16
        elif BITS == 3:
            k = lane // 16 * 256 + (tile // 4 * 8 + half * 4 + tile % 4) * 16 + lane % 16
        else:
            k = lane // 16 * 128 + (half * 4 + tile) * 16 + lane % 16
    else:
        lane = column // 4 * 2 + tile % 2
        field = column % 4
        selector = tile // 2
        if BITS == 4:
            k = lane // 32 * 128 + (lane // 16 % 2 * 4 + field) * 16 + lane % 16
        elif BITS == 3:
            k = lane // 16 * 256 + (selector // 2 * 8 + field * 2 + selector % 2) * 16 + lane % 16
        else:
            k = lane // 16 * 128 + (field * 2 + selector) * 16 + lane % 16
    return k
