"""How far a kernel's result may lie from float64: one function of K, the dtypes and the magnitudes that are summed.

The forward error of a computed sum of products is bounded component by component: every rounding is relative to the
term it rounds, so the bound is built from Σ|terms| and never from the result, which may cancel. fp32 sums on tensor
cores may truncate, hence 2^-23 per step. There is no looser value for any machine.
"""

from dataclasses import dataclass

import torch

FP32_STEP = 2.0**-23


def unit_roundoff(dtype: torch.dtype) -> float:
    """Largest relative error of rounding to nearest."""
    return torch.finfo(dtype).eps / 2


def smallest_step(dtype: torch.dtype) -> float:
    """Largest absolute error of rounding a number near zero (gradual underflow)."""
    return torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


@dataclass(frozen=True, kw_only=True, slots=True)
class Magnitudes:
    """Sums of absolute values, in float64, of the shape of the result.

    Attributes:
        terms: Σ |term| over the products that make up an element.
        factors: Σ |level| Σ_r |B_nr A_rk| |x|: what the fp32 errors of S are relative to. `terms` if S is not computed.
        inputs: Σ |x| over the same products: what absolute errors of a weight are multiplied with.
        fixed_point: error of the 16-bit fixed-point P of the rank-expanded kernel; 0 elsewhere.
    """

    terms: torch.Tensor
    factors: torch.Tensor
    inputs: torch.Tensor
    fixed_point: torch.Tensor | float = 0.0


def error_bound(
    expected: torch.Tensor,
    magnitudes: Magnitudes,
    *,
    steps: int,
    rank: int,
    roundings: int,
    compute: torch.dtype,
    result: torch.dtype,
) -> torch.Tensor:
    """Largest |computed - expected| of a right kernel.

    Args:
        expected: float64 result.
        magnitudes: of the terms of each element.
        steps: terms summed in fp32 (K, or the tokens of a gradient).
        rank: terms of S = B·A.
        roundings: how often a term is rounded to `compute` before it is summed.
        compute: dtype that terms are rounded to.
        result: dtype that the sum is rounded to at the end.
    """
    relative = (1 + unit_roundoff(compute)) ** roundings - 1
    before_rounding = (
        (relative + (steps + 16) * FP32_STEP) * magnitudes.terms
        + (rank + 4) * FP32_STEP * magnitudes.factors
        + 16 * roundings * smallest_step(compute) * magnitudes.inputs
        + magnitudes.fixed_point
    )
    return (
        before_rounding
        + 2 * unit_roundoff(result) * (expected.abs() + before_rounding)
        + smallest_step(result)
    )  # fmt: skip


def in_units_of_bound(computed: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """|computed − expected| of every element in units of its bound, float64; a right kernel's are at most 1.

    A dtype rounds to ±infinity from half a step beyond its largest number on. Where `expected` lies within its bound of
    that point, infinity of its sign is as right as a finite result; farther beyond only infinity is right. A NaN, or an
    infinity anywhere else, is wrong by infinity; where `expected` itself is not finite, only the same value is right.

    Args:
        computed: result in the dtype it was computed in.
        expected: float64 result.
        bound: largest error of each element (or of all), from `error_bound`.
    """
    limit = torch.finfo(computed.dtype)
    overflows_from = limit.max * (1 + limit.eps / 2 / (2 - limit.eps))
    found = computed.double()
    bound = torch.as_tensor(bound, dtype=torch.float64, device=expected.device).expand_as(expected)
    error = (found - expected).abs()
    # For an infinite result, how far `expected` must move until it is one.
    to_overflow = (overflows_from - expected.abs()).clamp_min(0.0)
    is_infinite = found.isinf() & expected.isfinite() & (found.sign() == expected.sign())
    error = torch.where(is_infinite, to_overflow, error)
    same = (found == expected) | (found.isnan() & expected.isnan())
    share = torch.where(same, 0.0, error / bound).nan_to_num(nan=torch.inf, posinf=torch.inf)
    return torch.where(expected.isfinite() | same, share, torch.inf)


def nearest_level_bound(weight: torch.Tensor, scale_factors: torch.Tensor, *, rank: int) -> torch.Tensor:
    """How much farther from W than the nearest multiple of S a code's level may lie, if W/S is computed in float32.

    A code is decided by comparing W/S with a midpoint. Where rounding turns the comparison, W/S lies within the
    rounding of S and of W · (1/S) of that midpoint, and the two levels' distances differ by twice that, times |S|.
    The same holds for the ends of the range.

    Args:
        weight: W.
        scale_factors: Σ_r |B_nr A_rk|, float64.
        rank: terms of S.
    """
    weight = weight.double().abs()
    magnitudes = Magnitudes(terms=2 * weight, factors=2 * scale_factors, inputs=torch.zeros_like(weight))
    return error_bound(
        torch.zeros_like(weight), magnitudes, steps=0, rank=rank, roundings=0, compute=torch.float32,
        result=torch.float32,
    )  # fmt: skip
