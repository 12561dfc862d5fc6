"""What every low-rank fit shares: its result, the truncated SVD of block scales, and factors that survive rounding.

S = B @ A leaves B and A free up to an invertible R×R matrix. `balanced` uses that freedom for storage: rounded to
float16, such factors lose 1e-5 of the squared error at 4 bits, and to bfloat16 7e-4 (measured, shipped model).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.reference.codebooks import nearest_values
from lords_bench.reference.fields import BlockField, LowRankField
from lords_bench.reference.panels import row_panels
from lords_bench.reference.rounding import LARGEST_ROUNDING_LOSS, too_small_error


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

    The expansion repeats each of the K/G columns G times, so its SVD is that of the N×K/G scales with Σ·√G and V/√G.
    Ranks beyond what the scales have begin with B = 0 and a small random A: S does not change, but they can grow.
    """
    scale_NG = blocks.scale_NG
    left_NQ, sigma_Q, right_QG = _svd(scale_NG)
    used = min(rank, len(sigma_Q))
    root_R = (sigma_Q[:used] * blocks.block**0.5).sqrt()
    b_NR = left_NQ[:, :used] * root_R
    a_RG = right_QG[:used] * (root_R.unsqueeze(1) / blocks.block**0.5)
    if used < rank:
        generator = torch.Generator().manual_seed(seed)
        extra_RG = torch.randn(rank - used, a_RG.shape[1], generator=generator, dtype=torch.float64).to(a_RG)
        a_RG = torch.cat((a_RG, extra_RG * (0.1 * a_RG.square().mean().sqrt())))
        b_NR = torch.nn.functional.pad(b_NR, (0, rank - used))
    return LowRankField(b_NR=b_NR.contiguous(), a_RK=a_RG.repeat_interleave(blocks.block, dim=1))


def _svd(matrix_NG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin singular value decomposition. On a GPU a tall matrix is first brought to its triangular factor.

    Jacobi's rotations run over columns one pair after another; a factor of QR has as few rows as columns.
    """
    n, g = matrix_NG.shape
    if matrix_NG.is_cuda and n > 2 * g:
        basis_NG, factor_GG = torch.linalg.qr(matrix_NG)
        left_GQ, sigma_Q, right_QG = torch.linalg.svd(factor_GG, full_matrices=False)
        return basis_NG @ left_GQ, sigma_Q, right_QG
    left_NQ, sigma_Q, right_QG = torch.linalg.svd(matrix_NG, full_matrices=False)
    return left_NQ, sigma_Q, right_QG


def nearest_field_values(weight_NK: Tensor, field: LowRankField, levels_L: Tensor) -> Tensor:
    """Level nearest to W/S for every weight, S expanded a panel of rows at a time."""
    values_NK = torch.empty_like(weight_NK)
    for panel in row_panels(*_shape(weight_NK), weight_NK.device):
        values_NK[panel] = nearest_values(weight_NK[panel], field.b_NR[panel] @ field.a_RK, levels_L)
    return values_NK


def squared_error(
    weight_NK: Tensor, field: LowRankField, levels_L: Tensor, *, input_weight_K: Tensor | None = None
) -> float:
    """Σ h_k (W - levels[code] · S)² with nearest codes, summed in float64; infinite where it is not a number."""
    error = torch.zeros((), dtype=torch.float64, device=weight_NK.device)
    for panel in row_panels(*_shape(weight_NK), weight_NK.device):
        scale_PK = field.b_NR[panel] @ field.a_RK
        value_PK = nearest_values(weight_NK[panel], scale_PK, levels_L)
        square_PK = torch.addcmul(weight_NK[panel], scale_PK, value_PK, value=-1.0).to(torch.float64).square_()
        square_K = square_PK.sum(dim=0)
        error += square_K.sum() if input_weight_K is None else square_K @ input_weight_K.to(torch.float64)
    return float(error.nan_to_num(torch.inf))


def balanced(field: LowRankField) -> LowRankField:
    """The same S by factors that bear rounding: orthogonal ranks, each with one largest magnitude in B and A.

    Ranks that are nearly collinear cancel, so that B and A can be much larger than S; rounding them would spoil it. The
    singular value decomposition of B @ A has no such ranks. It is taken of rows and columns brought to one size, so
    that small rows keep their digits, by QR of the factors: O((N+K)·R²), in float64.
    """
    b_NR, a_RK = field.b_NR.to(torch.float64), field.a_RK.to(torch.float64)
    row_N1, column_K = b_NR.abs().amax(dim=1, keepdim=True), a_RK.abs().amax(dim=0)
    b_basis_NQ, b_RR = torch.linalg.qr(b_NR / _or_one(row_N1))
    a_basis_KQ, a_RR = torch.linalg.qr((a_RK / _or_one(column_K)).T)
    left, sigma, right = torch.linalg.svd(b_RR @ a_RR.T, full_matrices=False)
    root = sigma.sqrt()
    b_NR = _pad_columns(row_N1 * (b_basis_NQ @ (left * root)), field.rank)
    a_KR = _pad_columns(column_K.unsqueeze(1) * (a_basis_KQ @ (right.T * root)), field.rank)
    b_R, a_R = b_NR.abs().amax(dim=0), a_KR.abs().amax(dim=0)
    alive_R = (b_R > 0) & (a_R > 0)
    ratio_R = torch.where(alive_R, a_R.sqrt() / b_R.sqrt(), 0.0)
    inverse_R = torch.where(alive_R, b_R.sqrt() / a_R.sqrt(), 0.0)
    dtype = field.b_NR.dtype
    return LowRankField(b_NR=(b_NR * ratio_R).to(dtype), a_RK=(a_KR * inverse_R).T.contiguous().to(dtype))


def rounded(field: LowRankField, dtype: torch.dtype) -> LowRankField:
    """`field.to_dtype(dtype)`, refused where the storage dtype cannot hold the scales.

    Raises:
        WeightError: the factors overflow `dtype`, or so much of S is lost below its smallest numbers that the weight
            would be spoilt; the message names a wider dtype.
    """
    stored = field.to_dtype(dtype)
    lost, size = _difference_and_size(field, stored)
    if lost > LARGEST_ROUNDING_LOSS * size:
        raise too_small_error("scale factors", float(field.b_NR.abs().max()), dtype)
    return stored


def _pad_columns(factor: Tensor, rank: int) -> Tensor:
    return torch.nn.functional.pad(factor, (0, rank - factor.shape[1]))


def _or_one(magnitude: Tensor) -> Tensor:
    return torch.where(magnitude > 0, magnitude, 1.0)


def _shape(matrix_NK: Tensor) -> tuple[int, int]:
    n, k = matrix_NK.shape
    return n, k


def _difference_and_size(field: LowRankField, stored: LowRankField) -> tuple[float, float]:
    """‖S - S'‖ and ‖S‖ (Frobenius) by Gram matrices of the factors, without expanding S."""
    b_NR = torch.cat((field.b_NR, stored.b_NR), dim=1).to(torch.float64)
    a_RK = torch.cat((field.a_RK, -stored.a_RK)).to(torch.float64)
    rank = field.rank
    size = (b_NR[:, :rank].T @ b_NR[:, :rank] * (a_RK[:rank] @ a_RK[:rank].T)).sum()
    difference = (b_NR.T @ b_NR * (a_RK @ a_RK.T)).sum()
    return float(difference.clamp_min(0.0).sqrt()), float(size.clamp_min(0.0).sqrt())
