"""Problems as a look-up will ask for them."""

import torch

from lords_bench.errors import UsageError
from lords_bench.kernels.common.prepared import forced_decoder
from lords_bench.records.tuned import Problem, m_bucket

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
