"""Weights of a problem with no memory behind them, on the meta device, prepared as those on a GPU are.

They answer what would take them, on any machine, and are launched where launches only compile: what a kernel is
specialised on (types, shapes, alignment, the unit of a decoder's levels) is there, the numbers are not.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from lords_bench.errors import UsageError
from lords_bench.kernels.common.prepared import MAX_KERNEL_RANK, REFERENCE, PreparedWeight, operands_of, prepare
from lords_bench.kernels.common.prepared_blocks import LoraAdapter, PreparedBlockwise, prepare_blockwise
from lords_bench.quant import named_codebook
from lords_bench.records.tuned import Problem

if TYPE_CHECKING:
    from lords_bench.kernels.common.operands import LordsOperands
    from lords_bench.kernels.common.ptx import Decoder

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Stored:
    """A LoRDS weight as it is stored, without its numbers but for the levels."""

    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    bits: int


def without_memory(*shape: int, dtype: torch.dtype) -> Tensor:
    """A contiguous tensor of that shape on the meta device."""
    return torch.empty(shape, dtype=dtype, device=META)


def tokens_without_memory(problem: Problem, columns: int) -> Tensor:
    """Activations of the problem's tokens, with that many columns."""
    return without_memory(problem.m_bucket, columns, dtype=getattr(torch, problem.x_dtype))


def any_without_memory(problem: Problem, *, lora_rank: int | None = None) -> PreparedWeight | PreparedBlockwise:
    """The weight of a problem, of whichever kind.

    Raises:
        UsageError: a block size that no tile fits.
    """
    return weight_without_memory(problem) if problem.block is None else blocks_without_memory(
        problem, lora_rank=lora_rank
    )  # fmt: skip


def kernel_operands(problem: Problem) -> "LordsOperands":
    """A weight of a LoRDS problem as kernels take it.

    Raises:
        UsageError: no kernel takes its rank.
    """
    weight = weight_without_memory(problem)
    if weight.decoder == REFERENCE:
        raise UsageError(f"rank {problem.rank} is above {MAX_KERNEL_RANK}; no kernel takes it")
    return operands_of(weight)


# Preparing takes 20 ms, much of it in PyTorch's meta kernels, and a tuner asks for one problem a hundred times.
@lru_cache(maxsize=256)
def weight_without_memory(problem: Problem) -> PreparedWeight:
    """A weight of a LoRDS problem.

    Raises:
        UsageError: the problem is of a block-wise weight.
    """
    if problem.rank is None:
        raise UsageError(f"problem of {problem.n}×{problem.k} has no rank; it is of a block-wise weight")
    scale_dtype = getattr(torch, problem.scale_dtype)
    stored = _Stored(
        packed=_packed(problem),
        b_NR=without_memory(problem.n, problem.rank, dtype=scale_dtype),
        a_RK=without_memory(problem.rank, problem.k, dtype=scale_dtype),
        levels_L=_levels(problem),
        bits=problem.bits,
    )
    return prepare(stored, getattr(torch, problem.x_dtype), decoder=cast("Decoder", problem.decoder))


@lru_cache(maxsize=256)
def blocks_without_memory(problem: Problem, *, lora_rank: int | None = None) -> PreparedBlockwise:
    """A weight of a block-wise problem, with an adapter where a rank of one is given.

    Raises:
        UsageError: the problem is of a LoRDS weight, or a block size that no tile fits.
    """
    if problem.block is None:
        raise UsageError(f"problem of {problem.n}×{problem.k} has no block; it is of a LoRDS weight")
    dtype = getattr(torch, problem.x_dtype)
    scale_NG = without_memory(problem.n, -(-problem.k // problem.block), dtype=getattr(torch, problem.scale_dtype))
    adapter = None
    if lora_rank is not None:
        adapter = LoraAdapter(
            b_NR=without_memory(problem.n, lora_rank, dtype=dtype),
            a_RK=without_memory(lora_rank, problem.k, dtype=dtype),
            scaling=1.0,
        )
    return prepare_blockwise(
        _packed(problem), scale_NG, _levels(problem), k=problem.k, bits=problem.bits, block=problem.block, dtype=dtype,
        zero_NG=scale_NG if problem.zero_points else None, decoder=cast("Decoder", problem.decoder), adapter=adapter,
    )  # fmt: skip


def _packed(problem: Problem) -> Tensor:
    from lords_bench.kernels.common.layout import LANES, k_block, plane_count

    blocks = -(-problem.k // k_block(problem.bits))
    return without_memory(problem.n, blocks, plane_count(problem.bits), LANES, dtype=torch.int16)


def _levels(problem: Problem) -> Tensor:
    """Levels that the decoder takes: integers, exact ones of NormalFloat, or those on the 7-bit grid."""
    names = {"uniform": f"int{problem.bits}", "table16": f"nf{problem.bits}"}
    return torch.tensor(named_codebook(names.get(problem.decoder, f"nf{problem.bits}-grid7")).levels)
