"""Quantization with calibration inputs: what `gptq`, `gptq-int`, `block-gptq`, `lords-gptq` and others have in common.

    fit = quantize_with_feedback(weight_NK, spec, hessian_KK, field=field, levels_L=levels_L)
    fit.field, fit.levels_L, fit.codes_NK      # rounded to their storage dtypes: store them as they are

A scale field and levels come in; codes are assigned by error feedback. With `spec.refit_rounds` = T > 0 two phases
follow, T rounds each:

    explore   scales (and learned levels) are fitted to the targets that the columns were rounded to, and the codes are
              assigned afresh. Feedback widens the targets beyond the weights, so scales that suit the weights clip
              them: at 2 bits most of the gain is here. The error usually falls, not always: the best round is kept.
    descend   scales are fitted to the codes under the full Hessian, then every column's codes to all others. Each step
              lowers tr(E H Eᵀ) or is not taken. (Levels fitted along lower it by less than 0.1 % on the testbed.)

With zero points W ≈ low + code · scale, so that all of this is done to W - low with levels 0 … 2^bits - 1; a refit
moves the zero points in the first phase, and holds them in the second. As in GPTQ with static groups (arXiv 2210.17323
and its code), scales and zero points start from the weights as they are, and inputs are visited largest first.

A round of the first kind costs about as much as GPTQ; one of the second R + 8 times N·K² multiply-adds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lords_bench.quant import QuantSpec
from lords_bench.reference.affine import zero_points
from lords_bench.reference.codebooks import normalise_levels, refit_levels
from lords_bench.reference.feedback import (
    DAMPING_FRACTION,
    FeedbackPlan,
    assign_feedback,
    feedback_targets,
    improve_codes,
    plan_feedback,
)
from lords_bench.reference.fields import BlockField, Field, LowRankField
from lords_bench.reference.hessian import check_hessian, hessian_error_N
from lords_bench.reference.lowrank import balanced, rounded
from lords_bench.reference.panels import compute_dtype
from lords_bench.reference.refit import refit_affine_to_targets, refit_field, refit_to_targets
from lords_bench.reference.storage import stored_field
from lords_bench.reference.weights import STORAGE_DTYPES


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibratedFit:
    """A quantized weight before packing: Ŵ = levels_L[codes_NK] * field.expand(), plus what a code 0 stands for.

    Attributes:
        field: numbers rounded to the storage dtype, kept in the compute dtype.
        levels_L: sorted, within [-1, 1], or 0 … L-1 with zero points; learned ones rounded to float32.
        codes_NK: uint8.
        hessian_error: tr(E H Eᵀ) under the damped Hessian.
    """

    field: Field
    levels_L: Tensor
    codes_NK: Tensor
    hessian_error: float

    @property
    def values_NK(self) -> Tensor:
        """What a scale is multiplied with: `levels_L[codes_NK]`, less the zero points."""
        values_NK = self.levels_L[self.codes_NK.int()]
        if isinstance(self.field, BlockField) and self.field.low_NG is not None:
            zero_NG = zero_points(self.field.low_NG, self.field.scale_NG, len(self.levels_L))
            values_NK -= zero_NG.repeat_interleave(self.field.block, dim=1)
        return values_NK

    @property
    def weight_NK(self) -> Tensor:
        """Ŵ."""
        return self.values_NK * self.field.expand()


@torch.no_grad()
def quantize_with_feedback(
    weight_NK: Tensor,
    spec: QuantSpec,
    hessian_KK: Tensor | None,
    *,
    field: Field,
    levels_L: Tensor,
    damping: float = DAMPING_FRACTION,
) -> CalibratedFit:
    """Codes, and for `spec.refit_rounds` > 0 refitted scales and levels, that keep tr(E H Eᵀ) low.

    Args:
        weight_NK: finite; arithmetic is in float64 for float64, else in float32.
        spec: gives storage of scales, rounds, and whether levels are learned (they move only in a refit).
        hessian_KK: mean of x xᵀ, K×K.
        field: the starting scales.
        levels_L: sorted starting levels, or the fixed ones.
        damping: fraction of the mean diagonal added to the Hessian, for codes and refits alike.

    Raises:
        WeightError: the Hessian is missing, misshapen, not one, or singular at this damping (see `hessian`); a refitted
            scale does not fit the storage dtype.
    """
    dtype = compute_dtype(weight_NK.dtype)
    weight = weight_NK.to(dtype)
    hessian = check_hessian(hessian_KK, weight.shape[1]).to(weight.device)
    plan = plan_feedback(hessian, damping=damping, dtype=dtype)

    def stored(field: Field) -> Field:
        if isinstance(field, LowRankField):
            field = rounded(balanced(field), STORAGE_DTYPES[spec.scale_dtype])
        return stored_field(field, spec)

    rounds, learn = spec.refit_rounds or 0, spec.levels == "learned"
    fit = _explore(weight, field, levels_L.to(dtype), plan, stored, rounds=rounds, learn=learn)
    return _descend(weight, fit, plan, stored, rounds=rounds)


def _explore(
    weight_NK: Tensor,
    field: Field,
    levels_L: Tensor,
    plan: FeedbackPlan,
    stored: Callable[[Field], Field],
    *,
    rounds: int,
    learn: bool,
) -> CalibratedFit:
    """Codes by feedback, then `rounds` times scales and levels to the targets and codes afresh; the best of all."""

    def assigned() -> CalibratedFit:
        storable = stored(field)
        codes_NK = assign_feedback(_above_low(weight_NK, storable), storable.expand(), levels_L, plan)
        return _fit(weight_NK, storable, levels_L, codes_NK, plan)

    best = latest = assigned()
    for _ in range(rounds):
        targets_NK = feedback_targets(weight_NK, latest.weight_NK, plan)
        if isinstance(field, BlockField) and field.low_NG is not None:
            field = refit_affine_to_targets(targets_NK, latest.codes_NK, field, plan.pivot_K, top=len(levels_L) - 1)
        else:
            field = refit_to_targets(targets_NK, latest.values_NK, field, plan.pivot_K)
        if learn:
            levels_L = refit_levels(targets_NK, field.expand(), latest.codes_NK, levels_L, input_weight_K=plan.pivot_K)
            levels_L, factor = normalise_levels(levels_L)
            levels_L, field = levels_L.to(torch.float32).to(weight_NK.dtype), field.scaled(factor)
        latest = assigned()
        best = min(best, latest, key=_error)
    return best


def _descend(
    weight_NK: Tensor,
    fit: CalibratedFit,
    plan: FeedbackPlan,
    stored: Callable[[Field], Field],
    *,
    rounds: int,
) -> CalibratedFit:
    """`rounds` times scales to the codes, then codes to the scales, under the full Hessian; the error never grows."""
    for _ in range(rounds):
        field = stored(refit_field(weight_NK, fit.values_NK, fit.field, plan.hessian_KK))
        fit = min(fit, _fit(weight_NK, field, fit.levels_L, fit.codes_NK, plan), key=_error)
        above_NK = _above_low(weight_NK, fit.field)
        codes_NK = improve_codes(above_NK, fit.field.expand(), fit.levels_L, fit.codes_NK, plan)
        fit = min(fit, _fit(weight_NK, fit.field, fit.levels_L, codes_NK, plan), key=_error)
    return fit


def _above_low(weight_NK: Tensor, field: Field) -> Tensor:
    """W less what code 0 stands for."""
    low_NK = field.expand_low() if isinstance(field, BlockField) else None
    return weight_NK if low_NK is None else weight_NK - low_NK


def _fit(weight_NK: Tensor, field: Field, levels_L: Tensor, codes_NK: Tensor, plan: FeedbackPlan) -> CalibratedFit:
    fit = CalibratedFit(field=field, levels_L=levels_L, codes_NK=codes_NK, hessian_error=0.0)
    error = float(hessian_error_N(weight_NK, fit.weight_NK, plan.hessian_KK).sum())
    return replace(fit, hessian_error=error)


def _error(fit: CalibratedFit) -> float:
    return fit.hessian_error
