"""Exact alternating least squares for a low-rank scale: with the codes fixed, B and A are linear regressions.

For fixed values v = levels[codes] and fixed A, row n of B minimises Σ_k h_k (w_nk - v_nk Σ_r b_nr a_rk)²: an R×R normal
equation whose matrix is Σ_k h_k v_nk² a_k a_kᵀ. A column of A is the same problem on the transposed weight. All rows
together cost O(N·K·R²), done panel by panel: no temporary grows with N·K.

Three guards make a step safe for any input. The equation is solved for the *change* of a row, so a direction that the
data does not determine keeps its value. The matrix is scaled to a unit diagonal and damped there, and rows are brought
to unit size by powers of two, so tiny and huge weights behave like ordinary ones. The error is measured again after
the step, and a row that did not get better keeps what it had.
"""

import math

import torch
from torch import Tensor

from lords_bench.reference.panels import compute_dtype, row_panels
from lords_bench.reference.workers import PanelWorkers

# Relative to a unit diagonal. Below it, a direction is lost in the rounding of the normal matrix, which is summed in
# the compute dtype over K inputs.
DAMPING = {torch.float32: 1e-6, torch.float64: 1e-13}

# Products of two basis rows held at once; 256 rows of 4096 inputs are 4 MiB in float32.
PAIR_CHUNK = 256


@torch.no_grad()
def refit_b(
    weight_NK: Tensor,
    values_NK: Tensor,
    a_RK: Tensor,
    *,
    b_NR: Tensor,
    input_weight_K: Tensor | None = None,
    workers: PanelWorkers | None = None,
) -> Tensor:
    """B that minimises Σ h_k (W - values · (B @ A))² for fixed values and A; no row's error ever grows.

    Args:
        weight_NK: the weight, any float dtype; the arithmetic is in float64 for float64, else in float32.
        values_NK: `levels_L[codes_NK]`.
        a_RK: fixed factor A.
        b_NR: present factor B; it stays where the least squares leave a direction open or rounding defeats them.
        input_weight_K: non-negative weight of each input's squared error; None is one.
        workers: threads to share the panels; None is the calling thread.

    Returns:
        b_NR in the compute dtype.
    """
    dtype = compute_dtype(weight_NK.dtype)
    (n, k), rank = weight_NK.shape, a_RK.shape[0]
    a_RK = a_RK.to(dtype)
    unit_R1 = _power_of_two(a_RK.abs().amax(dim=1, keepdim=True))
    basis_RK = a_RK / unit_R1
    start_NR = b_NR.to(dtype) * unit_R1.T
    input_weight_K = None if input_weight_K is None else _normalised(input_weight_K.to(dtype))
    fitted_NR = torch.empty_like(start_NR)

    def refit_panel(panel: slice) -> None:
        # A transposed weight (see `refit_a`) is made contiguous here, one panel at a time.
        weight_PK = weight_NK[panel].to(dtype).contiguous()
        values_PK = values_NK[panel].to(dtype).contiguous()
        row_PR, unit_P1 = _refit_rows(weight_PK, values_PK, basis_RK, start_NR[panel], input_weight_K)
        # In float64, where the product of a row and its unit cannot overflow before the division.
        row_PR = (row_PR.to(torch.float64) * unit_P1 / unit_R1.T).to(dtype)
        fitted_NR[panel] = torch.where(row_PR.isfinite().all(dim=1, keepdim=True), row_PR, b_NR[panel].to(dtype))

    panels = list(row_panels(n, k + rank * rank, weight_NK.device))
    if workers is None:
        for panel in panels:
            refit_panel(panel)
    else:
        workers.map(refit_panel, panels)
    return fitted_NR


def refit_a(
    weight_NK: Tensor, values_NK: Tensor, b_NR: Tensor, *, a_RK: Tensor, workers: PanelWorkers | None = None
) -> Tensor:
    """A that minimises Σ (W - values · (B @ A))² for fixed values and B; no column's error ever grows.

    There is no `input_weight_K`: h_k multiplies the whole problem of column k and drops out of it.

    Args and return value as in `refit_b`, with the roles of B and A exchanged.
    """
    return refit_b(weight_NK.T, values_NK.T, b_NR.T, b_NR=a_RK.T, workers=workers).T


def _refit_rows(
    weight_PK: Tensor, values_PK: Tensor, basis_RK: Tensor, start_PR: Tensor, input_weight_K: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Coefficients of every row in its unit, and the units."""
    largest_P1 = torch.maximum(weight_PK.abs().amax(dim=1, keepdim=True), start_PR.abs().amax(dim=1, keepdim=True))
    unit_P1 = _power_of_two(largest_P1)
    weight_PK, start_PR = weight_PK / unit_P1, start_PR / unit_P1

    residual_PK = torch.addcmul(weight_PK, values_PK, start_PR @ basis_RK, value=-1.0)
    error_P = _row_errors(residual_PK, input_weight_K)
    weighted_RK = basis_RK if input_weight_K is None else basis_RK * input_weight_K
    gradient_PR = residual_PK.mul_(values_PK) @ weighted_RK.T
    matrix_PRR = _normal_matrices(values_PK.square(), weighted_RK, basis_RK)
    fitted_PR = start_PR + solve_damped(matrix_PRR, gradient_PR, DAMPING[weight_PK.dtype])

    torch.addcmul(weight_PK, values_PK, fitted_PR @ basis_RK, value=-1.0, out=residual_PK)
    # False also where the new error is not a number.
    better_P1 = (_row_errors(residual_PK, input_weight_K) <= error_P).unsqueeze(1)
    return torch.where(better_P1, fitted_PR, start_PR), unit_P1.to(torch.float64)


def _normal_matrices(square_PK: Tensor, weighted_RK: Tensor, basis_RK: Tensor) -> Tensor:
    """Σ_k square_pk · weighted_rk · basis_sk for every row p: P×R×R, symmetric, float64."""
    rank = basis_RK.shape[0]
    first_T, second_T = torch.triu_indices(rank, rank, device=basis_RK.device)
    matrix_PRR = torch.empty(square_PK.shape[0], rank, rank, dtype=torch.float64, device=basis_RK.device)
    for first_C, second_C in zip(first_T.split(PAIR_CHUNK), second_T.split(PAIR_CHUNK), strict=True):
        sums_PC = (square_PK @ (weighted_RK[first_C] * basis_RK[second_C]).T).to(torch.float64)
        matrix_PRR[:, first_C, second_C] = sums_PC
        matrix_PRR[:, second_C, first_C] = sums_PC
    return matrix_PRR


def solve_damped(matrix_PRR: Tensor, gradient_PR: Tensor, damping: float) -> Tensor:
    """Damped solution in float64, returned in the gradient's dtype; 0 where the matrix is not positive definite."""
    diagonal_PR = matrix_PRR.diagonal(dim1=1, dim2=2)
    # A rank that no value of the row touches has a zero diagonal; its coefficient must not move.
    scale_PR = torch.where(diagonal_PR > 0, diagonal_PR, torch.inf).rsqrt()
    scaled_PRR = matrix_PRR * scale_PR.unsqueeze(1) * scale_PR.unsqueeze(2)
    scaled_PRR.diagonal(dim1=1, dim2=2).add_(damping)
    factor_PRR, failed_P = torch.linalg.cholesky_ex(scaled_PRR)
    right_PR1 = (gradient_PR.to(torch.float64) * scale_PR).unsqueeze(2)
    usable_P1 = (failed_P == 0).unsqueeze(1)
    identity_RR = torch.eye(matrix_PRR.shape[1], dtype=torch.float64, device=matrix_PRR.device)
    factor_PRR = torch.where(usable_P1.unsqueeze(2), factor_PRR, identity_RR)
    change_PR = torch.cholesky_solve(right_PR1, factor_PRR).squeeze(2) * scale_PR
    return torch.where(usable_P1, change_PR, 0.0).to(gradient_PR.dtype)


def _row_errors(residual_PK: Tensor, input_weight_K: Tensor | None) -> Tensor:
    square_PK = residual_PK.to(torch.float64).square()
    return square_PK.sum(dim=1) if input_weight_K is None else square_PK @ input_weight_K.to(torch.float64)


def _normalised(input_weight_K: Tensor) -> Tensor:
    return input_weight_K / _power_of_two(input_weight_K.amax())


def _power_of_two(magnitude: Tensor) -> Tensor:
    """Power of two just above each magnitude, by which a division is exact; 1 for zero."""
    limits = torch.finfo(magnitude.dtype)
    # Kept to normal numbers: neither the power nor its use as a divisor may leave the range of the dtype.
    lowest, highest = math.frexp(limits.tiny)[1], math.frexp(limits.max)[1] - 1
    return torch.ldexp(torch.ones_like(magnitude), torch.frexp(magnitude).exponent.clamp(lowest, highest))


_solve = solve_damped
