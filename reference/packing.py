"""True packing of codes at 4, 3 and 2 bits: the one format that every kernel reads.

K is cut into K blocks of KB inputs; a block holds 16 lanes of int16 in `planes` planes. Position p of lane j in block
b holds the code of k = b·KB + 16·p + j, so that every position is already an operand tile of a tensor core:

    4 bit   KB 128, 2 planes   code p at bits 4·(p mod 4) of plane p div 4
    2 bit   KB 128, 1 plane    code p at bits 2·p
    3 bit   KB 256, 3 planes   low two bits of code p at bits 2·(p mod 8) of plane p div 8; its high bit in plane 2
                               at bit 4·((p mod 8) div 2) + 2·(p div 8) + p mod 2

In memory a K that KB does not divide is padded with code 0, so that kernels read whole blocks. What is stored follows
K: the whole blocks as they lie, then the codes of each row's partial block as a dense stream (`stored_codes`).
"""

from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.reference.panels import row_panels

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
    _check_codes(codes_NK, bits)
    layout = _LAYOUTS[bits]
    n, k = codes_NK.shape
    shape = packed_shape(n, k, bits)
    padded_NK = torch.nn.functional.pad(codes_NK, (0, shape[1] * layout.k_block - k))
    codes = padded_NK.reshape(n, shape[1], layout.k_block // LANES, LANES)
    packed = torch.empty(shape, dtype=torch.int16, device=codes_NK.device)
    for panel in row_panels(n, shape[1] * layout.planes * LANES, codes_NK.device):
        words = torch.zeros_like(packed[panel], dtype=torch.int32)
        for piece in layout.pieces:
            part = (codes[panel, :, piece.position] >> piece.low) & ((1 << piece.width) - 1)
            words[:, :, piece.plane] |= part.to(torch.int32) << piece.shift
        # Two's complement by hand: what a cast of 32768…65535 to int16 gives is left to the platform.
        packed[panel] = words - ((words & 0x8000) << 1)
    return packed


def unpack_codes(packed: Tensor, bits: int, k: int) -> Tensor:
    """The exact inverse of `pack_codes`: uint8 codes of shape (N, k)."""
    layout = _LAYOUTS[bits]
    n, blocks = packed.shape[:2]
    codes = torch.zeros((n, blocks, layout.k_block // LANES, LANES), dtype=torch.uint8, device=packed.device)
    for panel in row_panels(n, blocks * layout.planes * LANES, packed.device):
        words = packed[panel].to(torch.int32)
        for piece in layout.pieces:
            part = (words[:, :, piece.plane] >> piece.shift) & ((1 << piece.width) - 1)
            codes[panel, :, piece.position] |= part.to(torch.uint8) << piece.low
    return codes.view(n, -1)[:, :k].contiguous()


def stored_layout(n: int, k: int, bits: int) -> tuple[torch.dtype, tuple[int, ...]]:
    """Dtype and shape of the stored codes: the packed ones, or of a partial last block bytes (N, ⌈K·bits/8⌉)."""
    layout = _LAYOUTS[bits]
    whole, rest = divmod(k, layout.k_block)
    if not rest:
        return torch.int16, packed_shape(n, k, bits)
    return torch.uint8, (n, whole * layout.planes * LANES * 2 + -(-rest * bits // 8))


def stored_codes(packed: Tensor, bits: int, k: int) -> Tensor:
    """Packed codes without the padding of the last block: `packed` itself where K has whole blocks only."""
    whole, rest = divmod(k, _LAYOUTS[bits].k_block)
    if not rest:
        return packed
    rows = packed[:, :whole].reshape(packed.shape[0], -1).contiguous().view(torch.uint8)
    return torch.cat((rows, _stream_rows(unpack_codes(packed[:, whole:], bits, rest), bits)), dim=1)


def packed_codes(stored: Tensor, bits: int, k: int) -> Tensor:
    """The exact inverse of `stored_codes`; codes that an earlier version stored padded are returned as they are."""
    if stored.dtype == torch.int16:
        return stored
    layout, n = _LAYOUTS[bits], stored.shape[0]
    whole, rest = divmod(k, layout.k_block)
    octets = whole * layout.planes * LANES * 2
    blocks = stored[:, :octets].reshape(n, whole, layout.planes, 2 * LANES).contiguous().view(torch.int16)
    return torch.cat((blocks, pack_codes(_codes_of_rows(stored[:, octets:], bits, rest), bits)), dim=1)


def pack_stream(codes: Tensor, bits: int) -> Tensor:
    """Codes of any shape as one dense little-endian bit stream: uint8, ceil(count · bits / 8) bytes.

    For small side tables (zero points), which the blocks of `pack_codes` would pad many times over.

    Raises:
        WeightError: a code does not fit into `bits` bits.
    """
    _check_codes(codes, bits)
    return _stream_rows(codes.reshape(1, -1), bits)[0]


def unpack_stream(packed: Tensor, bits: int, count: int) -> Tensor:
    """The exact inverse of `pack_stream`: `count` codes (uint8, one dimension)."""
    return _codes_of_rows(packed.view(1, -1), bits, count)[0]


def _stream_rows(codes_NK: Tensor, bits: int) -> Tensor:
    """Each row as a dense little-endian bit stream: uint8, N×⌈K·bits/8⌉."""
    positions = torch.arange(bits, dtype=torch.uint8, device=codes_NK.device)
    stream = ((codes_NK.unsqueeze(2) >> positions) & 1).flatten(1)
    octets = torch.nn.functional.pad(stream, (0, -stream.shape[1] % 8)).view(stream.shape[0], -1, 8)
    return (octets << torch.arange(8, dtype=torch.uint8, device=codes_NK.device)).sum(dim=2, dtype=torch.uint8)


def _codes_of_rows(octets: Tensor, bits: int, count: int) -> Tensor:
    """The exact inverse of `_stream_rows` for rows of `count` codes."""
    stream = ((octets.unsqueeze(2) >> torch.arange(8, dtype=torch.uint8, device=octets.device)) & 1).flatten(1)
    digits = stream[:, : count * bits].reshape(octets.shape[0], count, bits)
    return (digits << torch.arange(bits, dtype=torch.uint8, device=octets.device)).sum(dim=2, dtype=torch.uint8)


def _check_codes(codes: Tensor, bits: int) -> None:
    largest = int(codes.max()) if codes.numel() else 0
    if largest >= 1 << bits:
        raise WeightError(f"code {largest} does not fit into {bits} bits; codes go from 0 to {(1 << bits) - 1}")
