"""Codes by error feedback: GPTQ for any scale field, column by column.

The nearest level is the best code for each weight alone, but tr(E H Eᵀ) couples the inputs: an error made on one
column can be compensated on the columns still open. With H = M diag(d) Mᵀ, M unit upper triangular in the order of the
visit, the objective is Σ_k d_k ‖t_k - q_k‖² with the target t_k = w_k + Σ_{j<k} M_jk (w_j - q_j), so the column is
rounded to the level nearest to t_k instead of w_k. This is LDLQ, which QuIP (arXiv 2307.13304) proves equal to GPTQ
(arXiv 2210.17323); it needs one Cholesky factor and no inverse. The scale enters only through the rounding of a column,
so one scale per weight (a low-rank S) costs no more than one per block.

Layout: the loop runs on transposed matrices (K×N, a column of the weight is contiguous), in spans of columns: errors of
earlier spans arrive by one matrix product, errors inside a span by rank-1 updates. Cost N·K² multiply-adds, in a loop
of K short steps that each serve all rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.reference.codebooks import assign_nearest
from lords_bench.reference.hessian import check_hessian, damped
from lords_bench.reference.panels import compute_dtype

DAMPING_FRACTION = 0.01
SPAN_COLUMNS = 128


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeedbackPlan:
    """What the passes over one Hessian share; make it with `plan_feedback`.

    Attributes:
        hessian_KK: the damped Hessian, inputs in their own order.
        order_K: int64, the inputs in the order they are visited: largest H_kk first, because what is rounded early can
            still be compensated (GPTQ's act-order). Codes are put back in place, so storage does not change.
        mixing_KK: M above, unit upper triangular, in visiting order.
        pivot_K: d above, inputs in their own order: what a squared error of the rounded column costs.
    """

    hessian_KK: Tensor
    order_K: Tensor
    mixing_KK: Tensor
    pivot_K: Tensor


@torch.no_grad()
def plan_feedback(
    hessian_KK: Tensor, *, damping: float = DAMPING_FRACTION, dtype: torch.dtype = torch.float32
) -> FeedbackPlan:
    """Damp, order and factorise a Hessian, in float64; one plan serves all layers and rounds that share the Hessian.

    K³/3 multiply-adds and, at the peak, some four K×K matrices of float64.

    Args:
        hessian_KK: mean of x xᵀ; inputs that were always zero are allowed.
        damping: added to the diagonal as a fraction of its mean.
        dtype: what the passes compute in.

    Raises:
        WeightError: not a Hessian (see `check_hessian`), or singular at this damping.
    """
    damped_KK = damped(check_hessian(hessian_KK, hessian_KK.shape[-1]).to(torch.float64), damping)
    order_K = damped_KK.diagonal().argsort(descending=True, stable=True)
    # H = M̃ M̃ᵀ with M̃ upper triangular is the Cholesky factorisation of H with its inputs reversed.
    reversed_K = order_K.flip(0)
    factor_KK, failed_at = torch.linalg.cholesky_ex(damped_KK[reversed_K[:, None], reversed_K])
    if int(failed_at) != 0:
        raise WeightError(f"Hessian is singular at damping={damping:g}; raise it ({DAMPING_FRACTION:g} is usual)")
    root_K = factor_KK.diagonal().clone()
    pivot_K = torch.empty_like(root_K)
    pivot_K[reversed_K] = root_K.square()
    return FeedbackPlan(
        hessian_KK=damped_KK.to(dtype),
        order_K=order_K,
        mixing_KK=factor_KK.div_(root_K).to(dtype).flip(0, 1),
        pivot_K=pivot_K.to(dtype),
    )


@torch.no_grad()
def assign_feedback(weight_NK: Tensor, scale_NK: Tensor, levels_L: Tensor, plan: FeedbackPlan) -> Tensor:
    """Codes (uint8, N×K) that keep tr(E H Eᵀ) low for a given scale of any kind, sign included.

    With a diagonal H these are the codes of `assign_nearest`. Arithmetic in float64 for a float64 weight, else float32.
    """
    dtype = compute_dtype(weight_NK.dtype)
    levels, mixing_KK = levels_L.to(dtype), plan.mixing_KK.to(dtype)
    weight_KN, scale_KN = (_in_visiting_order(matrix.to(dtype), plan) for matrix in (weight_NK, scale_NK))
    error_KN = torch.empty_like(weight_KN)
    codes_KN = torch.empty(weight_KN.shape, dtype=torch.uint8, device=weight_KN.device)
    for span in _spans(weight_KN.shape[0]):
        target_PN = torch.addmm(weight_KN[span], mixing_KK[: span.start, span].T, error_KN[: span.start])
        for row, column in enumerate(range(span.start, span.stop)):
            codes_N, error_N = _round_column(target_PN[row], weight_KN[column], scale_KN[column], levels)
            codes_KN[column] = codes_N
            error_KN[column] = error_N
            target_PN[row + 1 :].addr_(mixing_KK[column, column + 1 : span.stop], error_N)
    return _in_own_order(codes_KN, plan)


@torch.no_grad()
def feedback_targets(weight_NK: Tensor, quantized_NK: Tensor, plan: FeedbackPlan) -> Tensor:
    """t_NK: what each column is rounded to once the columns before it hold `quantized_NK`.

    For any quantized weight, tr(E H Eᵀ) = Σ_k plan.pivot_K[k] ‖t_k - quantized_k‖². Inputs in their own order.
    """
    order_K = plan.order_K
    error_NK = (weight_NK - quantized_NK)[:, order_K]
    targets_NK = torch.empty_like(error_NK)
    targets_NK[:, order_K] = quantized_NK[:, order_K] + error_NK @ plan.mixing_KK.to(error_NK)
    return targets_NK


@torch.no_grad()
def improve_codes(
    weight_NK: Tensor, scale_NK: Tensor, levels_L: Tensor, codes_NK: Tensor, plan: FeedbackPlan
) -> Tensor:
    """Codes after one sweep of coordinate descent on tr(E H Eᵀ): every column set to its best given all others.

    Feedback looks only forward; a sweep lets early columns answer to late ones (QuantEase, arXiv 2309.01885). No row's
    error grows beyond rounding.
    """
    dtype = compute_dtype(weight_NK.dtype)
    levels = levels_L.to(dtype)
    hessian_KK = plan.hessian_KK.to(dtype)[plan.order_K][:, plan.order_K]
    inverse_K = hessian_KK.diagonal().reciprocal()
    weight_KN, scale_KN = (_in_visiting_order(matrix.to(dtype), plan) for matrix in (weight_NK, scale_NK))
    codes_KN = _in_visiting_order(codes_NK, plan)
    error_KN = weight_KN - scale_KN * levels[codes_KN.int()]
    for span in _spans(weight_KN.shape[0]):
        slope_PN = hessian_KK[span] @ error_KN
        for row, column in enumerate(range(span.start, span.stop)):
            # The column's part of the objective is H_kk (e - e*)², e* = e - slope / H_kk.
            target_N = weight_KN[column] - error_KN[column] + slope_PN[row] * inverse_K[column]
            codes_N, error_N = _round_column(target_N, weight_KN[column], scale_KN[column], levels)
            slope_PN.addr_(hessian_KK[span, column], error_N - error_KN[column])
            codes_KN[column] = codes_N
            error_KN[column] = error_N
    return _in_own_order(codes_KN, plan)


def _round_column(target_N: Tensor, weight_N: Tensor, scale_N: Tensor, levels_L: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of the levels nearest to the target, and the error they leave against the weight."""
    codes_N = assign_nearest(target_N[None], scale_N[None], levels_L)[0]
    return codes_N, weight_N - scale_N * levels_L[codes_N.int()]


def _spans(k: int) -> Iterator[slice]:
    return (slice(start, min(start + SPAN_COLUMNS, k)) for start in range(0, k, SPAN_COLUMNS))


def _in_visiting_order(matrix_NK: Tensor, plan: FeedbackPlan) -> Tensor:
    """K×N, rows in the order of the visit."""
    return matrix_NK.T[plan.order_K].contiguous()


def _in_own_order(codes_KN: Tensor, plan: FeedbackPlan) -> Tensor:
    """N×K, inputs in their own order."""
    codes_NK = torch.empty(codes_KN.shape[::-1], dtype=codes_KN.dtype, device=codes_KN.device)
    codes_NK[:, plan.order_K] = codes_KN.T
    return codes_NK
