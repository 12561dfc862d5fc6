"""True packing of codes at 4, 3 and 2 bits: the one format that every kernel reads.

K is cut into K blocks of KB inputs; a block holds 16 lanes of int16 in `planes` planes. Position p of lane j in block
b holds the code of k = b·KB + 16·p + j, so that every position is already an operand tile of a tensor core:

    4 bit   KB 128, 2 planes   code p at bits 4·(p mod 4) of plane p div 4
    2 bit   KB 128, 1 plane    code p at bits 2·p
    3 bit   KB 256, 3 planes   low two bits of code p at bits 2·(p mod 8) of plane p div 8; its high bit in plane 2
                               at bit 4·((p mod 8) div 2) + 2·(p div 8) + p mod 2

A K that KB does not divide is padded with code 0; the padding counts as stored bytes.
"""

from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from lords_bench.errors import WeightError

LANES = 16


class _Piece(NamedTuple):
    """`width` bits of the code at `position`, starting at its bit `low`, lie at bit `shift` of `plane`."""

    position: int
    low: int
    width: int
    plane: int
    shift: int


class _Layout(NamedTuple):
    k_block: int
    planes: int
    pieces: tuple[_Piece, ...]


_LAYOUTS: MappingProxyType[int, _Layout] = MappingProxyType(
    {
        4: _Layout(128, 2, tuple(_Piece(p, 0, 4, p // 4, 4 * (p % 4)) for p in range(8))),
        3: _Layout(
            256,
            3,
            (
                *(_Piece(p, 0, 2, p // 8, 2 * (p % 8)) for p in range(16)),
                *(_Piece(p, 2, 1, 2, 4 * (p % 8 // 2) + 2 * (p // 8) + p % 2) for p in range(16)),
            ),
        ),
        2: _Layout(128, 1, tuple(_Piece(p, 0, 2, 0, 2 * p) for p in range(8))),
    }
)

K_BLOCK: MappingProxyType[int, int] = MappingProxyType({bits: layout.k_block for bits, layout in _LAYOUTS.items()})


def packed_shape(n: int, k: int, bits: int) -> tuple[int, int, int, int]:
    """Shape of the packed tensor of N×K codes: (N, ceil(K / KB), planes, 16)."""
    layout = _LAYOUTS[bits]
    return n, -(-k // layout.k_block), layout.planes, LANES


def pack_codes(codes_NK: Tensor, bits: int) -> Tensor:
    """Codes (uint8, N×K) to packed int16 of `packed_shape(N, K, bits)`.

    Raises:
        WeightError: a code does not fit into `bits` bits.
    """
    n, k = codes_NK.shape
    if codes_NK.numel() and int(codes_NK.max()) >= 1 << bits:
        raise WeightError(f"code {int(codes_NK.max())} does not fit into {bits} bits; codes are 0 to {(1 << bits) - 1}")
    layout = _LAYOUTS[bits]
    shape = packed_shape(n, k, bits)
    padded_NK = torch.nn.functional.pad(codes_NK, (0, shape[1] * layout.k_block - k))
    codes = padded_NK.view(n, shape[1], layout.k_block // LANES, LANES)
    words = torch.zeros(shape, dtype=torch.int32, device=codes_NK.device)
    for piece in layout.pieces:
        bits_of_code = (codes[:, :, piece.position].to(torch.int32) >> piece.low) & ((1 << piece.width) - 1)
        words[:, :, piece.plane] |= bits_of_code << piece.shift
    # Two's complement by hand: casting 32768…65535 to int16 is left to the platform.
    return (words - ((words & 0x8000) << 1)).to(torch.int16)


def unpack_codes(packed: Tensor, bits: int, k: int) -> Tensor:
    """The exact inverse of `pack_codes`: uint8 codes of shape (N, k)."""
    layout = _LAYOUTS[bits]
    n, blocks = packed.shape[:2]
    codes = torch.zeros((n, blocks, layout.k_block // LANES, LANES), dtype=torch.int32, device=packed.device)
    words = packed.to(torch.int32)
    for piece in layout.pieces:
        bits_of_code = (words[:, :, piece.plane] >> piece.shift) & ((1 << piece.width) - 1)
        codes[:, :, piece.position] |= bits_of_code << piece.low
    return codes.view(n, -1)[:, :k].to(torch.uint8).contiguous()
