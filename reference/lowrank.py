"""What every low-rank fit shares: its result, the truncated SVD of block scales, and factors that survive rounding.

S = B @ A leaves B and A free up to an invertible R×R matrix. Two such freedoms matter in storage: each rank's column of
B and row of A get the same largest magnitude, so neither leaves the range of float16 before it must; and after B is
rounded, A can be fitted to the B that is stored.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.reference.fields import BlockField, LowRankField

# A float16 or bfloat16 factor carries about three digits. Losing more than 1 % of S to rounding means that the factors
# fell below the normal numbers of the storage dtype.
LARGEST_ROUNDING_LOSS = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LowRankFit:
    """A fitted scale and the levels it was fitted with.

    Attributes:
        field: B and A in the compute dtype, their numbers already rounded to the storage dtype that was asked for.
        levels_L: sorted, largest magnitude 1; those given, or those learned.
    """

    field: LowRankField
    levels_L: Tensor


def zero_fit(weight_NK: Tensor, levels_L: Tensor, rank: int) -> LowRankFit:
    """The fit of a weight of zeros: S = 0."""
    n, k = weight_NK.shape
    field = LowRankField(b_NR=weight_NK.new_zeros(n, rank), a_RK=weight_NK.new_zeros(rank, k))
    return LowRankFit(field=field, levels_L=levels_L)


def truncated_svd(blocks: BlockField, rank: int, *, seed: int) -> LowRankField:
    """Best rank-R approximation of the expanded block scales: B = U√Σ, A = √ΣVᵀ.

    The expansion repeats each of the K/G columns G times, so the SVD is that of the N×K/G scales with Σ·√G.
    Ranks beyond what the scales have begin with B = 0 and a small random A: S does not change, but they can grow.
    """
    scale_NG = blocks.scale_NG
    left_NQ, sigma_Q, right_QG = torch.linalg.svd(scale_NG, full_matrices=False)
    used = min(rank, len(sigma_Q))
    # B and A of equal mean square, whatever N and K.
    ratio = (scale_NG.shape[0] / (scale_NG.shape[1] * blocks.block)) ** 0.25
    root_R = sigma_Q[:used].sqrt()
    b_NR = left_NQ[:, :used] * root_R * ratio
    a_RG = right_QG[:used] * root_R.unsqueeze(1) / ratio
    if used < rank:
        generator = torch.Generator().manual_seed(seed)
        extra_RG = torch.randn(rank - used, a_RG.shape[1], generator=generator, dtype=torch.float64).to(a_RG)
        a_RG = torch.cat((a_RG, extra_RG * (0.1 * a_RG.square().mean().sqrt())))
        b_NR = torch.nn.functional.pad(b_NR, (0, rank - used))
    return LowRankField(b_NR=b_NR.contiguous(), a_RK=a_RG.repeat_interleave(blocks.block, dim=1))


def balanced(field: LowRankField) -> LowRankField:
    """The same S with, rank by rank, B and A of one largest magnitude; a rank that is zero on one side becomes zero."""
    b_R, a_R = field.b_NR.abs().amax(dim=0), field.a_RK.abs().amax(dim=1)
    alive_R = (b_R > 0) & (a_R > 0)
    ratio_R = torch.where(alive_R, a_R.sqrt() / b_R.sqrt(), 0.0)
    inverse_R = torch.where(alive_R, b_R.sqrt() / a_R.sqrt(), 0.0)
    return LowRankField(b_NR=field.b_NR * ratio_R, a_RK=field.a_RK * inverse_R.unsqueeze(1))


def rounded(field: LowRankField, dtype: torch.dtype) -> LowRankField:
    """`field.to_dtype(dtype)`, refused where the storage dtype cannot hold the scales.

    Raises:
        WeightError: the factors overflow `dtype`, or so much of S is lost below its smallest numbers that the weight
            would be spoilt; the message names a wider dtype.
    """
    stored = field.to_dtype(dtype)
    lost, size = _difference_and_size(field, stored)
    if lost > LARGEST_ROUNDING_LOSS * size:
        name = str(dtype).removeprefix("torch.")
        largest = float(field.b_NR.abs().max())
        raise WeightError(
            f"scale factors of at most {largest:.3g} are too small for {name}; use scale_dtype='bfloat16' or 'float32'"
        )
    return stored


def _difference_and_size(field: LowRankField, stored: LowRankField) -> tuple[float, float]:
    """‖S - S'‖ and ‖S‖ (Frobenius) by Gram matrices of the factors, without expanding S."""
    b_NR = torch.cat((field.b_NR, stored.b_NR), dim=1).to(torch.float64)
    a_RK = torch.cat((field.a_RK, -stored.a_RK)).to(torch.float64)
    rank = field.rank
    size = (b_NR[:, :rank].T @ b_NR[:, :rank] * (a_RK[:rank] @ a_RK[:rank].T)).sum()
    difference = (b_NR.T @ b_NR * (a_RK @ a_RK.T)).sum()
    return float(difference.clamp_min(0.0).sqrt()), float(size.clamp_min(0.0).sqrt())
