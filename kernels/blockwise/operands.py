"""A block-wise weight as its kernels read it, prepared once per weight and dtype."""

import math
from dataclasses import dataclass, field

import torch
from torch.nn.functional import pad

from lords_bench.errors import UsageError
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.operands import LevelTable, level_table
from lords_bench.kernels.common.ptx import Decoder
from lords_bench.kernels.common.ready import Memo


def require_block(block: int, *, bits: int) -> None:
    """Refuses a block size that no tile fits.

    Raises:
        UsageError: with the sizes that fit.
    """
    kb = k_block(bits)
    if block < 16 or (kb % block and block % kb):
        raise UsageError(f"block {block} neither divides {kb} from 16 up nor is a multiple of it; use dequantize")


def scales_per_row(k: int, *, bits: int, block: int) -> int:
    """Scales of a row as kernels read them: one for every `block` inputs of whole K blocks, and an even number."""
    kb = k_block(bits)
    groups = math.ceil(math.ceil(k / kb) * kb / block)
    return groups + groups % 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockwiseOperands:
    """A block-wise weight ready for the kernels: W = (level - zero) · scale.

    Attributes:
        packed: int16 (N, K blocks, planes, 16).
        scale_NG: one scale per row and block of `block` inputs; for every input of the packed K blocks, and an even
            number in a row, so that 16-bit scales can be read in pairs (what K does not have is zero).
        zero_NG: zero points in units of decoded levels, of the same shape in the compute dtype; None without.
        shifts: int32 (0, 16): of the first and the second of a pair.
        memo: the calls that kernels have made of it (`ready.ready_call`).
    """

    packed: torch.Tensor
    scale_NG: torch.Tensor
    zero_NG: torch.Tensor | None
    shifts: torch.Tensor
    levels: LevelTable
    n: int
    k: int
    bits: int
    block: int
    memo: Memo = field(init=False, repr=False, default_factory=dict)

    @property
    def k_blocks(self) -> int:
        """K blocks of one packed row."""
        return int(self.packed.shape[1])


def blockwise_operands(  # noqa: PLR0913  (the parts of a weight)
    packed: torch.Tensor,
    scale_NG: torch.Tensor,
    levels_L: torch.Tensor,
    *,
    k: int,
    bits: int,
    block: int,
    dtype: torch.dtype,
    decoder: Decoder | None = None,
    zero_NG: torch.Tensor | None = None,
) -> BlockwiseOperands:
    """A block-wise weight prepared for activations of `dtype`.

    Args:
        packed: int16 (N, K blocks, planes, 16).
        scale_NG: (N, ⌈K/block⌉), in float16, bfloat16 or float32; kept as it is.
        levels_L: at most 2^bits levels, on any device.
        k: in features.
        bits: bits per code.
        block: inputs per scale: a power of two from 16 up to a K block, or a multiple of a K block.
        dtype: of the activations.
        decoder: as for `level_table`.
        zero_NG: zero points in units of the levels; rounded to `dtype`, which holds the integer ones of integer levels
            exactly.

    Raises:
        UsageError: a block size that no tile fits, or shapes or dtypes that do not fit together.
    """
    kb = k_block(bits)
    require_block(block, bits=bits)
    if packed.shape[1] != math.ceil(k / kb):
        raise UsageError(
            f"{packed.shape[1]} packed K blocks do not fit K = {k} at {bits} bits; expected {math.ceil(k / kb)}"
        )
    expected = (packed.shape[0], math.ceil(k / block))
    if tuple(scale_NG.shape) != expected:
        raise UsageError(f"scales {tuple(scale_NG.shape)} do not fit; expected {expected} for block {block}")
    if scale_NG.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise UsageError(f"scales are {scale_NG.dtype}; convert them to float16, bfloat16 or float32")
    if zero_NG is not None and zero_NG.shape != scale_NG.shape:
        raise UsageError(f"zero points {tuple(zero_NG.shape)} do not fit scales {tuple(scale_NG.shape)}")
    levels = level_table(levels_L, bits=bits, dtype=dtype, decoder=decoder, device=packed.device)
    missing = scales_per_row(k, bits=bits, block=block) - scale_NG.shape[1]
    return BlockwiseOperands(
        packed=packed.contiguous(),
        scale_NG=pad(scale_NG, (0, missing)).contiguous(),
        zero_NG=None if zero_NG is None else pad((zero_NG.float() / levels.unit).to(dtype), (0, missing)).contiguous(),
        shifts=torch.tensor((0, 16), dtype=torch.int32, device=packed.device),
        levels=levels,
        n=packed.shape[0],
        k=k,
        bits=bits,
        block=block,
    )
