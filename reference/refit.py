"""Scales refitted with the codes fixed: to the targets of error feedback, or under the full Hessian.

With the codes fixed, Ŵ = levels[codes] ∘ S is linear in the block scales, in B and in A, each taken alone. Against
fixed targets the objective is a weighted sum of squares, which `als` solves. Under the full Hessian it is the quadratic
tr(E H Eᵀ):

    block scales   row n solves a K/G × K/G system: Gram matrix of its blocks in the H inner product
    B              row n solves an R × R system: design rows A_r ∘ levels[codes_n]
    A              one system couples all rows; some steps of preconditioned conjugate gradients

Every step is solved for the *change*, from the residual, so a direction the calibration does not determine stays as it
is. A row whose predicted change would raise its error keeps its scales, and conjugate gradients from zero only descend:
nothing here raises its objective beyond rounding.

Cost in multiply-adds: B R·N·K², block scales N·K²/2, A N·K² per step; temporaries are panels of rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lords_bench.reference.als import DAMPING, refit_a, refit_b, solve_damped
from lords_bench.reference.fields import BlockField, Field, LowRankField
from lords_bench.reference.hessian import product_panels
from lords_bench.reference.panels import compute_dtype

# On the testbed's layers 8 steps, or B once more after A, lower the error of a whole fit by less than 0.1 %.
A_STEPS = 4


@torch.no_grad()
def refit_to_targets(targets_NK: Tensor, values_NK: Tensor, field: Field, pivot_K: Tensor) -> Field:
    """Scales that minimise Σ_k d_k ‖t_k - values_k s_k‖² for fixed targets: block scales exactly; B, then A.

    With the targets of error feedback and its pivots d this is tr(E H Eᵀ) as it stands; new scales move the targets
    too, so the error itself is known only after the next assignment.

    Args:
        targets_NK: from `feedback_targets`, in the compute dtype.
        values_NK: `levels_L[codes_NK]`.
        field: where to start.
        pivot_K: `FeedbackPlan.pivot_K`.
    """
    if isinstance(field, LowRankField):
        b_NR = refit_b(targets_NK, values_NK, field.a_RK, b_NR=field.b_NR, input_weight_K=pivot_K)
        return LowRankField(b_NR=b_NR, a_RK=refit_a(targets_NK, values_NK, b_NR, a_RK=field.a_RK))
    weighted_NK = values_NK * pivot_K
    shape = (values_NK.shape[0], -1, field.block)
    products_NG = (weighted_NK * targets_NK).view(shape).sum(dim=2)
    squares_NG = (weighted_NK * values_NK).view(shape).sum(dim=2)
    scale_NG = torch.where(squares_NG > 0, products_NG / squares_NG, field.scale_NG.to(targets_NK.dtype))
    return BlockField(scale_NG=scale_NG, block=field.block)


@torch.no_grad()
def refit_affine_to_targets(
    targets_NK: Tensor, codes_NK: Tensor, field: BlockField, pivot_K: Tensor, *, top: int
) -> BlockField:
    """Scales and zero points that minimise Σ_k d_k ‖t_k - (code_k - zero) s‖² for fixed targets and codes, exactly.

    For a zero point z and values v = code - z the least-squares scale is p/q, p = Σ d v t and q = Σ d v², and lowers
    the sum by p²/q; every z in 0 … `top` is tried. A block whose codes or targets say nothing of its scale keeps what
    it has.

    Args:
        targets_NK: from `feedback_targets`, in the compute dtype.
        codes_NK: uint8.
        field: where to start, with zero points.
        pivot_K: `FeedbackPlan.pivot_K`.
        top: the largest code.
    """
    shape = (*field.scale_NG.shape, field.block)
    codes_NGJ, targets_NGJ = codes_NK.to(targets_NK.dtype).view(shape), targets_NK.view(shape)
    weight_GJ = pivot_K.to(targets_NK.dtype).view(shape[1:])
    assert field.low_NG is not None
    best_scale_NG, best_low_NG = field.scale_NG, field.low_NG
    best_gain_NG = torch.zeros_like(best_scale_NG)
    for zero in range(top + 1):
        values_NGJ = codes_NGJ - zero
        product_NG = (values_NGJ * targets_NGJ * weight_GJ).sum(dim=2)
        square_NG = (values_NGJ.square() * weight_GJ).sum(dim=2)
        scale_NG = product_NG / square_NG.clamp_min(torch.finfo(square_NG.dtype).tiny)
        better_NG = product_NG * scale_NG > best_gain_NG
        best_gain_NG = torch.where(better_NG, product_NG * scale_NG, best_gain_NG)
        best_scale_NG = torch.where(better_NG, scale_NG, best_scale_NG)
        best_low_NG = torch.where(better_NG, -zero * scale_NG, best_low_NG)
    return BlockField(scale_NG=best_scale_NG, low_NG=best_low_NG, block=field.block)


@torch.no_grad()
def refit_field(weight_NK: Tensor, values_NK: Tensor, field: Field, hessian_KK: Tensor) -> Field:
    """The field that lowers tr(E H Eᵀ) for fixed values: block scales exactly; B exactly, then A.

    Args:
        weight_NK: any float dtype; arithmetic is in float64 for float64, else in float32.
        values_NK: `levels_L[codes_NK]`.
        field: where to start.
        hessian_KK: positive definite; pass the damped one.
    """
    if isinstance(field, BlockField):
        return refit_blocks(weight_NK, values_NK, field, hessian_KK)
    field = refit_b_hessian(weight_NK, values_NK, field, hessian_KK)
    return refit_a_hessian(weight_NK, values_NK, field, hessian_KK)


@torch.no_grad()
def refit_b_hessian(weight_NK: Tensor, values_NK: Tensor, field: LowRankField, hessian_KK: Tensor) -> LowRankField:
    """B that minimises tr(E H Eᵀ) for fixed values and A, row by row; no row's error grows."""
    dtype = compute_dtype(weight_NK.dtype)
    b_NR, a_RK, hessian = field.b_NR.to(dtype), field.a_RK.to(dtype), hessian_KK.to(dtype)
    n, k = weight_NK.shape
    fitted_NR = torch.empty_like(b_NR)
    for panel in product_panels(n, 2 * field.rank * k, weight_NK.device):
        values_PK = values_NK[panel].to(dtype)
        design_PRK = values_PK.unsqueeze(1) * a_RK
        projected_PRK = (design_PRK.flatten(0, 1) @ hessian).view_as(design_PRK)
        error_PK = weight_NK[panel].to(dtype) - values_PK * (b_NR[panel] @ a_RK)
        gradient_PR = (projected_PRK @ error_PK.unsqueeze(2)).squeeze(2)
        matrix_PRR = projected_PRK @ design_PRK.mT
        fitted_NR[panel] = b_NR[panel] + _descending_change(matrix_PRR, gradient_PR)
    return LowRankField(b_NR=fitted_NR, a_RK=a_RK)


@torch.no_grad()
def refit_a_hessian(
    weight_NK: Tensor, values_NK: Tensor, field: LowRankField, hessian_KK: Tensor, *, steps: int = A_STEPS
) -> LowRankField:
    """A moved towards the minimum of tr(E H Eᵀ) for fixed values and B, by conjugate gradients.

    Preconditioned by the exact R×R system each column of A would have if H were diagonal.
    """
    dtype = compute_dtype(weight_NK.dtype)
    b_NR, a_RK, hessian = field.b_NR.to(dtype), field.a_RK.to(dtype), hessian_KK.to(dtype)
    (n, k), rank = weight_NK.shape, field.rank
    panels = list(product_panels(n, k, weight_NK.device))

    def back_project(panel: slice, error_PK: Tensor) -> Tensor:
        return b_NR[panel].T @ ((error_PK @ hessian) * values_NK[panel].to(dtype))

    def curvature(direction_RK: Tensor) -> Tensor:
        product_RK = torch.zeros_like(a_RK)
        for panel in panels:
            product_RK += back_project(panel, (b_NR[panel] @ direction_RK) * values_NK[panel].to(dtype))
        return product_RK

    gradient_RK = torch.zeros_like(a_RK)
    pairs_KC = torch.zeros(k, rank * rank, dtype=dtype, device=weight_NK.device)
    for panel in panels:
        values_PK = values_NK[panel].to(dtype)
        gradient_RK += back_project(panel, weight_NK[panel].to(dtype) - (b_NR[panel] @ a_RK) * values_PK)
        pairs_PC = (b_NR[panel].unsqueeze(2) * b_NR[panel].unsqueeze(1)).flatten(1)
        pairs_KC += values_PK.square().T @ pairs_PC
    diagonal_KRR = (pairs_KC * hessian.diagonal().unsqueeze(1)).to(torch.float64).view(k, rank, rank)

    def precondition(residual_RK: Tensor) -> Tensor:
        return solve_damped(diagonal_KRR, residual_RK.T, DAMPING[dtype]).T

    change_RK = _conjugate_gradients(curvature, gradient_RK, precondition, steps)
    return LowRankField(b_NR=b_NR, a_RK=a_RK + change_RK)


@torch.no_grad()
def refit_blocks(weight_NK: Tensor, values_NK: Tensor, field: BlockField, hessian_KK: Tensor) -> BlockField:
    """Block scales that minimise tr(E H Eᵀ) for fixed values, row by row; no row's error grows."""
    dtype = compute_dtype(weight_NK.dtype)
    scale_NG, hessian, block = field.scale_NG.to(dtype), hessian_KK.to(dtype), field.block
    n, k = weight_NK.shape
    groups = k // block
    fitted_NG = torch.empty_like(scale_NG)
    for panel in product_panels(n, 4 * k + 4 * groups * groups, weight_NK.device):
        values_PK = values_NK[panel].to(dtype)
        error_PK = weight_NK[panel].to(dtype) - values_PK * scale_NG[panel].repeat_interleave(block, dim=1)
        gradient_PG = ((error_PK @ hessian) * values_PK).view(-1, groups, block).sum(dim=2)
        matrix_PGG = torch.empty(values_PK.shape[0], groups, groups, dtype=dtype, device=weight_NK.device)
        for group in range(groups):
            first, rest = slice(group * block, (group + 1) * block), slice(group * block, k)
            product_PK = (values_PK[:, first] @ hessian[first, rest]) * values_PK[:, rest]
            row_PG = product_PK.view(-1, groups - group, block).sum(dim=2)
            matrix_PGG[:, group, group:] = row_PG
            matrix_PGG[:, group:, group] = row_PG
        fitted_NG[panel] = scale_NG[panel] + _descending_change(matrix_PGG, gradient_PG)
    if field.low_NG is None:
        return BlockField(scale_NG=fitted_NG, block=block)
    # The zero points stay: what code 0 stands for follows the scale.
    follows_NG = torch.where(scale_NG != 0, fitted_NG / scale_NG, 1.0)
    return BlockField(scale_NG=fitted_NG, low_NG=field.low_NG.to(dtype) * follows_NG, block=block)


def _descending_change(matrix_PRR: Tensor, gradient_PR: Tensor) -> Tensor:
    """Change of every row's coefficients that minimises its quadratic; zero where the quadratic would not fall."""
    matrix = matrix_PRR.to(torch.float64)
    change_PR = solve_damped(matrix, gradient_PR, DAMPING[gradient_PR.dtype])
    change, gradient = change_PR.to(torch.float64), gradient_PR.to(torch.float64)
    rise_P = torch.einsum("pr,prs,ps->p", change, matrix, change) - 2.0 * (change * gradient).sum(dim=1)
    return torch.where((rise_P < 0.0).unsqueeze(1), change_PR, 0.0)


def _conjugate_gradients(
    curvature: Callable[[Tensor], Tensor],
    gradient: Tensor,
    precondition: Callable[[Tensor], Tensor],
    steps: int,
) -> Tensor:
    """Approximate solution x of `curvature(x) = gradient` from zero (Hestenes & Stiefel 1952).

    Each step lowers the quadratic. There is no branch on the data, so a GPU never waits for the host; a spent direction
    takes steps of zero.
    """
    change = torch.zeros_like(gradient)
    residual = gradient.clone()
    direction = precondition(residual)
    slope = (residual * direction).sum(dtype=torch.float64)
    for _ in range(steps):
        product = curvature(direction)
        bend = (direction * product).sum(dtype=torch.float64)
        length = torch.where((bend > 0.0) & (slope > 0.0), slope / bend, 0.0).to(gradient.dtype)
        change += length * direction
        residual -= length * product
        preconditioned = precondition(residual)
        previous, slope = slope, (residual * preconditioned).sum(dtype=torch.float64)
        turn = torch.where((previous > 0.0) & (slope > 0.0), slope / previous, 0.0).to(gradient.dtype)
        direction = preconditioned + turn * direction
    return change
