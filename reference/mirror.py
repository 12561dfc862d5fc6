"""Signs of rows and columns of the scale: which way round the levels serve them best.

Levels need not be symmetric (NF-k has one level more above zero than below), so a weight may be closer to S·levels or
to -S·levels. A block scale has a sign of its own; S = B @ A can turn whole rows and columns at no cost. With gain d_nk
of keeping the sign at one weight, signs s_N and t_K are wanted of high Σ s_n d_nk t_k: sign patterns of the leading
singular vectors are a good start (the best of 32 random ones is no better, measured), and turning all rows, then all
columns, that are better turned ends at a local maximum.
"""

import torch
from torch import Tensor

from lords_bench.reference.codebooks import nearest_values
from lords_bench.reference.fields import LowRankField
from lords_bench.reference.panels import row_panels

POWER_ITERATIONS = 10
MOST_ROUNDS = 50


def mirrored(
    weight_NK: Tensor,
    field: LowRankField,
    levels_L: Tensor,
    *,
    row_weight_N: Tensor,
    column_weight_K: Tensor,
    seed: int,
) -> LowRankField:
    """The field with rows of B and columns of A turned so that Σ r_n c_k (w - levels[code]·S)² falls.

    Holds one matrix of the weight's size; some 50 products of it with a vector.

    Args:
        weight_NK: float32 or float64.
        field: the scale to turn.
        levels_L: sorted levels.
        row_weight_N: weights r of the squared error.
        column_weight_K: weights c of the squared error.
        seed: of the vector that power iteration starts from.
    """
    gain_NK = torch.empty_like(weight_NK)
    n, k = weight_NK.shape
    for panel in row_panels(n, k, weight_NK.device):
        weight_PK, scale_PK = weight_NK[panel], field.b_NR[panel] @ field.a_RK
        value_PK = nearest_values(weight_PK, scale_PK, levels_L)
        other_PK = nearest_values(weight_PK, -scale_PK, levels_L)
        kept_PK = torch.addcmul(weight_PK, scale_PK, value_PK, value=-1.0).square_()
        turned_PK = torch.addcmul(weight_PK, scale_PK, other_PK).square_()
        gain_NK[panel] = turned_PK.sub_(kept_PK).mul_(row_weight_N[panel].unsqueeze(1))
    gain_NK *= column_weight_K

    generator = torch.Generator().manual_seed(seed)
    vector_K = torch.randn(k, generator=generator, dtype=torch.float64).to(gain_NK)
    for _ in range(POWER_ITERATIONS):
        vector_K = (gain_NK @ vector_K) @ gain_NK
        vector_K /= vector_K.norm().clamp_min(torch.finfo(vector_K.dtype).tiny)
    sign_K = _sign(vector_K)
    for _ in range(MOST_ROUNDS):
        sign_N = _sign(gain_NK @ sign_K)
        previous_K, sign_K = sign_K, _sign(sign_N @ gain_NK)
        if torch.equal(previous_K, sign_K):
            break
    return LowRankField(b_NR=field.b_NR * sign_N.unsqueeze(1), a_RK=field.a_RK * sign_K)


def _sign(number: Tensor) -> Tensor:
    """1 or -1, 1 for zero."""
    return torch.where(number < 0, -1.0, 1.0).to(number.dtype)
