"""Weights as kernels read them: packed codes, padded factors and levels prepared for a decoder.

Prepared once per weight and dtype, then reused by every call; nothing here runs per call.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import triton.language as tl

from lords_bench.errors import UsageError
from lords_bench.kernels.common.layout import integer_columns_per_block, integer_tile_count, k_block, k_of_column
from lords_bench.kernels.common.ptx import Decoder
from lords_bench.kernels.common.ready import Memo

if TYPE_CHECKING:
    from torch import Tensor

GRID7_ZERO = 64
GRID7_STEPS = 63
MAX_RANK = 128

# A level counts as a point (b - 64)/63 of the grid if float32 storage is all that separates them.
_GRID_TOLERANCE = 1e-6
_LANES_PER_WARP = 32


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LevelTable:
    """Levels as a decoder reads them.

    Attributes:
        decoder: which decoder the words are for.
        words: int32 words, each 32 times (PTX decoders); levels in the compute dtype (`table`).
        dtype: dtype that levels are decoded to.
        integer_levels: int8 levels of the integer path: grid points b, for `uniform` the codes; None without one.
        unit: what a decoded value is multiplied with to give the level.
    """

    decoder: Decoder
    words: "Tensor"
    dtype: torch.dtype
    integer_levels: "Tensor | None"
    unit: float

    @property
    def triton_dtype(self) -> Any:
        """`dtype` as a constant of a kernel."""
        return {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}[self.dtype]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LordsOperands:
    """One LoRDS weight ready for the kernels: W_NK = levels[codes_NK] · (b_NR @ a_RK).

    Attributes:
        packed: int16 of shape (N, K blocks, planes, 16).
        b_NR: factor B with its rank padded by zero columns to `rank`.
        a_RK: factor A with its rank padded by zero rows; K as it is.
        levels: table for the decoder.
        n, k, bits: shape of the weight, bits per code.
        rank: padded rank, 16, 32, 64 or 128.
        memo: the calls that kernels have made of it (`ready.ready_call`).
    """

    packed: "Tensor"
    b_NR: "Tensor"
    a_RK: "Tensor"
    levels: LevelTable
    n: int
    k: int
    bits: int
    rank: int
    memo: Memo = field(init=False, repr=False, default_factory=dict)

    @property
    def k_blocks(self) -> int:
        """K blocks of one packed row."""
        return int(self.packed.shape[1])


def padded_rank(rank: int) -> int:
    """Rank that the kernels compute with: the next of 16, 32, 64, 128.

    Raises:
        UsageError: rank above 128 or below 1.
    """
    if not 1 <= rank <= MAX_RANK:
        raise UsageError(f"rank {rank} is outside 1 to {MAX_RANK}; use dequantize and a dense matmul")
    return max(16, 1 << (rank - 1).bit_length())


def grid7_points(levels_L: "Tensor") -> "Tensor | None":
    """uint8 grid points b with level = (b - 64)/63, or None where a level is off the grid."""
    points = torch.round(levels_L.double() * GRID7_STEPS)
    on_grid = (levels_L.double() - points / GRID7_STEPS).abs().max() <= _GRID_TOLERANCE
    inside = points.min() >= -GRID7_ZERO and points.max() <= GRID7_STEPS
    return (points + GRID7_ZERO).to(torch.uint8) if bool(on_grid and inside) else None


def level_table(
    levels_L: "Tensor",
    *,
    bits: int,
    dtype: torch.dtype,
    decoder: Decoder | None = None,
    device: torch.device | None = None,
) -> LevelTable:
    """Levels prepared for `decoder`; None picks the fastest that takes them.

    That is `uniform` for the levels of an INT-n codebook, `grid7` for levels on the 7-bit grid, else `table16`.

    Args:
        levels_L: at most 2^bits levels, any float dtype; missing ones are padded with zero.
        bits: bits per code.
        decoder: the decoder, or None.
        dtype: compute dtype. `table16` and `table` round the levels to it.
        device: where the table shall lie; None is where the levels do, whose values are looked at.

    Raises:
        UsageError: the levels do not fit the decoder.
    """
    count = 1 << bits
    if levels_L.numel() > count:
        raise UsageError(f"{levels_L.numel()} levels do not fit into {bits} bits; give at most {count}")
    levels = torch.zeros(count, dtype=torch.float32, device=levels_L.device)
    levels[: levels_L.numel()] = levels_L
    points = grid7_points(levels)
    uniform = bool(torch.equal(levels, torch.arange(-count // 2, count // 2, device=levels.device) / (count // 2)))
    if decoder is None:
        decoder = "uniform" if uniform else "table16" if points is None else "grid7"
    if decoder != "table" and dtype not in (torch.float16, torch.bfloat16):
        raise UsageError(f"decoder {decoder!r} decodes to float16 and bfloat16, not {dtype}; use decoder 'table'")
    integer_levels = None if points is None else points.view(torch.int8)
    unit = 1.0
    if decoder == "grid7":
        if points is None:
            raise UsageError(f"levels {levels_L.tolist()} are off the 7-bit grid; use decoder 'table16'")
        words = _replicated(points)
        unit = (512 if dtype == torch.float16 else 64) / GRID7_STEPS
    elif decoder == "table16":
        raw = levels.to(dtype).view(torch.uint8).reshape(count, 2)
        words = _replicated(raw.t().contiguous().flatten())
    elif decoder == "uniform":
        if not uniform:
            raise UsageError(f"levels {levels_L.tolist()} are not the integers of {bits} bits; use decoder 'table16'")
        words, unit = torch.zeros(1, dtype=torch.int32, device=levels.device), 2 / count
        integer_levels = torch.arange(count, dtype=torch.int8, device=levels.device)
    else:
        words = levels.to(dtype)
    if integer_levels is not None:
        integer_levels = integer_levels.to(device or levels.device)
    words = words.to(device or levels.device)
    return LevelTable(decoder=decoder, words=words, dtype=dtype, integer_levels=integer_levels, unit=unit)


def lords_operands(
    packed: "Tensor",
    b_NR: "Tensor",
    a_RK: "Tensor",
    levels_L: "Tensor",
    *,
    k: int,
    bits: int,
    dtype: torch.dtype,
    decoder: Decoder | None = None,
) -> LordsOperands:
    """A LoRDS weight prepared for activations of `dtype`.

    Args:
        packed: int16 (N, ceil(K/KB), planes, 16), as `reference.packing` writes it.
        b_NR: factor B in its storage dtype, on the device of `packed`.
        a_RK: factor A, of the same dtype.
        levels_L: at most 2^bits levels, on any device.
        k: in features, without the padding.
        bits: bits per code.
        dtype: dtype of the activations.
        decoder: as for `level_table`.

    Raises:
        UsageError: shapes, dtypes or devices that do not fit together.
    """
    n, blocks = packed.shape[:2]
    if blocks != math.ceil(k / k_block(bits)):
        expected = math.ceil(k / k_block(bits))
        raise UsageError(f"{blocks} packed K blocks do not fit K = {k} at {bits} bits; expected {expected}")
    if b_NR.shape[0] != n or a_RK.shape[1] != k or b_NR.shape[1] != a_RK.shape[0]:
        raise UsageError(f"B {tuple(b_NR.shape)} and A {tuple(a_RK.shape)} do not fit a {n}×{k} weight")
    if len({packed.device, b_NR.device, a_RK.device}) > 1:
        raise UsageError(f"weight lies on {packed.device}, {b_NR.device} and {a_RK.device}; move it to one device")
    rank = padded_rank(b_NR.shape[1])
    extra = rank - b_NR.shape[1]
    return LordsOperands(
        packed=packed.contiguous(),
        b_NR=torch.nn.functional.pad(b_NR, (0, extra)).contiguous(),
        a_RK=torch.nn.functional.pad(a_RK, (0, 0, 0, extra)).contiguous(),
        levels=level_table(levels_L, bits=bits, dtype=dtype, decoder=decoder, device=packed.device),
        n=n,
        k=k,
        bits=bits,
        rank=rank,
    )


def integer_tile_a(a_RK: "Tensor", *, k_blocks: int, bits: int, decoder: Decoder) -> "Tensor":
    """A in the column order of the integer path: (tiles, R, columns), zero where k ≥ K. Same bytes as A itself."""
    tiles = integer_tile_count(bits, decoder)
    columns = torch.arange(k_blocks * integer_columns_per_block(bits, decoder), device=a_RK.device)
    padded = torch.nn.functional.pad(a_RK, (0, k_blocks * k_block(bits) - a_RK.shape[1]))
    return torch.stack([padded[:, k_of_column.fn(columns, tile, bits, decoder)] for tile in range(tiles)]).contiguous()


def _replicated(bytes_: "Tensor") -> "Tensor":
    """Bytes as int32 words, each word 32 times so that a warp can read it at lane-dependent addresses."""
    return bytes_.contiguous().view(torch.int32).repeat_interleave(_LANES_PER_WARP)
