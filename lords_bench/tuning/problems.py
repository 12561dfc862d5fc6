"""Problems as a look-up will ask for them, and weights of a problem without memory behind them."""

from typing import TYPE_CHECKING, cast

import torch

from lords_bench.errors import UsageError
from lords_bench.kernel_registry import PreparedBlockwise
from lords_bench.prepared import DECODERS, PreparedWeight, forced_decoder
from lords_bench.records.tuned import Problem, m_bucket

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

# Scales are stored in it; `prepare` keeps it.
SCALE_DTYPE = "float16"
# Decoder and whether there are zero points: of NormalFloat levels on the 7-bit grid, and of integers.
BLOCK_FORMATS = (("grid7", False), ("uniform", True))
DTYPES = ("float16", "bfloat16", "float32")


def lords_problem(
    *, m: int, n: int, k: int, bits: int, rank: int, x_dtype: str, scale_dtype: str = SCALE_DTYPE
) -> Problem:
    """A product with a LoRDS weight as `keys.problem_of` names it once the weight is prepared.

    The rank is the padded one, and the decoder the one that `prepare` takes for levels on the 7-bit grid, which is
    where LoRDS quantizes to.

    Raises:
        UsageError: a rank that kernels do not take, or a dtype that no product has.
    """
    from lords_bench.kernels.common.operands import padded_rank

    if x_dtype not in DTYPES:
        raise UsageError(f"dtype {x_dtype!r} is not one of activations; give {', '.join(DTYPES)}")
    return Problem(
        m_bucket=m_bucket(m),
        n=n,
        k=k,
        bits=bits,
        rank=padded_rank(rank),
        x_dtype=x_dtype,
        scale_dtype=scale_dtype,
        decoder=forced_decoder(getattr(torch, x_dtype)) or "grid7",
    )


def block_problems(*, m: int, n: int, k: int, bits: int, block: int, x_dtype: str) -> tuple[Problem, ...]:
    """A product with each block-wise baseline as `keys.block_problem_of` names it: NormalFloat, integers with zeros.

    Raises:
        UsageError: a dtype that no product has.
    """
    if x_dtype not in DTYPES:
        raise UsageError(f"dtype {x_dtype!r} is not one of activations; give {', '.join(DTYPES)}")
    forced = forced_decoder(getattr(torch, x_dtype))
    return tuple(
        Problem(
            m_bucket=m_bucket(m), n=n, k=k, bits=bits, block=block, zero_points=zero_points, x_dtype=x_dtype,
            scale_dtype=SCALE_DTYPE, decoder=forced or decoder,
        )
        for decoder, zero_points in BLOCK_FORMATS
    )  # fmt: skip


def blocks_without_memory(problem: Problem) -> PreparedBlockwise:
    """A weight of a block-wise problem, on the meta device: it answers what takes it, on any machine.

    Raises:
        KeyError: the problem is of a LoRDS weight.
        UsageError: a block size that no tile fits.
    """
    from lords_bench.kernels.blockwise.operands import BlockwiseOperands, require_block, scales_per_row
    from lords_bench.kernels.common.layout import k_block, plane_count
    from lords_bench.kernels.common.operands import LevelTable

    if problem.block is None:
        raise KeyError("block")
    require_block(problem.block, bits=problem.bits)
    dtype = getattr(torch, problem.x_dtype)

    def meta(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    groups = scales_per_row(problem.k, bits=problem.bits, block=problem.block)
    levels = LevelTable(
        decoder=cast("Decoder", problem.decoder), words=meta(1, dtype=torch.int32), dtype=dtype, integer_levels=None,
        unit=1.0,
    )  # fmt: skip
    return PreparedBlockwise(
        operands=BlockwiseOperands(
            packed=meta(
                problem.n, -(-problem.k // k_block(problem.bits)), plane_count(problem.bits), 16, dtype=torch.int16
            ),
            scale_NG=meta(problem.n, groups, dtype=getattr(torch, problem.scale_dtype)),
            zero_NG=meta(problem.n, groups, dtype=dtype) if problem.zero_points else None,
            shifts=meta(2, dtype=torch.int32),
            levels=levels,
            n=problem.n,
            k=problem.k,
            bits=problem.bits,
            block=problem.block,
        )
    )


def weight_without_memory(problem: Problem) -> PreparedWeight:
    """A weight of a LoRDS problem, prepared as on a GPU, on the meta device: it answers what takes it, on any machine.

    Raises:
        KeyError: the problem is of a block-wise weight.
    """
    from lords_bench.kernels.common.layout import k_block, plane_count

    if problem.rank is None:
        raise KeyError("rank")
    dtype, scale_dtype = getattr(torch, problem.x_dtype), getattr(torch, problem.scale_dtype)

    def meta(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    a_RK = meta(problem.rank, problem.k, dtype=scale_dtype)
    on_grid = problem.decoder != "table16"
    return PreparedWeight(
        packed=meta(
            problem.n, -(-problem.k // k_block(problem.bits)), plane_count(problem.bits), 16, dtype=torch.int16
        ),
        b_NR=meta(problem.n, problem.rank, dtype=scale_dtype),
        a_RK=a_RK,
        levels_L=meta(1 << problem.bits, dtype=torch.float32),
        words=meta(1, dtype=torch.int32),
        grid_bytes=meta(1 << problem.bits, dtype=torch.int8) if on_grid else None,
        a_columns=a_RK if on_grid else None,
        bits=problem.bits,
        decoder=list[str](DECODERS).index(problem.decoder),
        dtype=dtype,
    )
