"""Rows and columns of a weight brought to unit size, so that one step size suits every scale factor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.reference.panels import compute_dtype, row_panels

ROUNDS = 10


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NormalisedWeight:
    """W_NK = row_N · unit_NK · column_K with rows and columns of `unit_NK` of root mean square 1, near enough."""

    unit_NK: Tensor
    row_N: Tensor
    column_K: Tensor


def normalise(weight_NK: Tensor, *, rounds: int = ROUNDS) -> NormalisedWeight:
    """Alternating division by the root mean square of rows and of columns (Sinkhorn); a zero row or column keeps 1.

    Rows are first divided by their largest magnitude, so that squares stay in range. One pass over the weight a round.
    """
    dtype = compute_dtype(weight_NK.dtype)
    n, k = weight_NK.shape
    row_N = _or_one(weight_NK.abs().amax(dim=1).to(dtype))
    unit_NK = weight_NK.to(dtype) / row_N.unsqueeze(1)
    relative_N = torch.ones_like(row_N)
    column_K = torch.ones(k, dtype=dtype, device=weight_NK.device)
    panels = list(row_panels(n, k, weight_NK.device))
    for _ in range(rounds):
        inverse_K = column_K.square().reciprocal_()
        sum_K = torch.zeros_like(column_K)
        for panel in panels:
            square_PK = unit_NK[panel].square()
            square_P = _or_one(square_PK @ inverse_K / k)
            relative_N[panel] = square_P.sqrt()
            sum_K += square_P.reciprocal_() @ square_PK
        column_K = _or_one(sum_K / n).sqrt_()
    unit_NK /= relative_N.unsqueeze(1)
    unit_NK /= column_K
    return NormalisedWeight(unit_NK=unit_NK, row_N=row_N * relative_N, column_K=column_K)


def _or_one(magnitude: Tensor) -> Tensor:
    return torch.where(magnitude > 0, magnitude, 1.0)
