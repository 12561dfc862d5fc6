"""Float64 results of the training kernels, and how far a right kernel may lie from them (`reference.error_bounds`)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.reference.error_bounds import Magnitudes, error_bound, nearest_level_bound


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Expected:
    """A result in float64, and the largest error of each of its elements."""

    value: Tensor
    bound: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Factored:
    """levels[codes] and the factors of S, in float64."""

    values_NK: Tensor
    b_NR: Tensor
    a_RK: Tensor


def expected_input_gradient(dy_MN: Tensor, weight: Factored, *, table: bool) -> Expected:
    """The gradient dX = dY W, in the dtype of dY.

    Args:
        dy_MN: as the kernel takes it.
        weight: in float64.
        table: whether a decoder's table rounds the levels to the compute dtype, beside S and the product.
    """
    dy, values_NK = dy_MN.double(), weight.values_NK
    w_NK = values_NK * (weight.b_NR @ weight.a_RK)
    value = dy @ w_NK
    magnitudes = Magnitudes(
        terms=dy.abs() @ w_NK.abs(),
        factors=dy.abs() @ (values_NK.abs() * (weight.b_NR.abs() @ weight.a_RK.abs())),
        inputs=dy.abs().sum(1, keepdim=True).expand_as(value),
    )
    bound = error_bound(
        value, magnitudes, steps=dy.shape[1], rank=weight.b_NR.shape[1], roundings=3 if table else 2,
        compute=dy_MN.dtype, result=dy_MN.dtype,
    )  # fmt: skip
    return Expected(value=value, bound=bound)


def expected_factor_gradients(
    dy_MN: Tensor, x_MK: Tensor, weight: Factored, *, table: bool
) -> tuple[Expected, Expected]:
    """The gradients dA and dB in float32, of S's own rank; arguments as for `expected_input_gradient`.

    dS, A (or B) and, through a table, the levels are rounded to bfloat16, or not at all for float32 activations. It is
    dS as it is that is rounded, not its terms, whose sum over the tokens is float32.
    """
    dy, x, b_NR, a_RK = dy_MN.double(), x_MK.double(), weight.b_NR, weight.a_RK
    ds_NK = (dy.t() @ x) * weight.values_NK
    size_NK = (dy.abs().t() @ x.abs()) * weight.values_NK.abs()
    found = []
    for value, terms, factors in (
        (b_NR.t() @ ds_NK, b_NR.abs().t() @ ds_NK.abs(), b_NR.abs().t() @ size_NK),
        (ds_NK @ a_RK.t(), ds_NK.abs() @ a_RK.abs().t(), size_NK @ a_RK.abs().t()),
    ):
        bound = error_bound(
            value,
            Magnitudes(terms=terms, factors=factors, inputs=torch.zeros_like(terms)),
            steps=sum(ds_NK.shape),
            rank=x_MK.shape[0],
            roundings=3 if table else 2,
            compute=torch.float32 if x_MK.dtype == torch.float32 else torch.bfloat16,
            result=torch.float32,
        )
        found.append(Expected(value=value, bound=bound))
    return found[0], found[1]


def fake_quantize_errors(
    weight_NK: Tensor,
    fake_NK: Tensor,
    codes_NK: Tensor,
    inside_NK: Tensor,
    levels_L: Tensor,
    b_NR: Tensor,
    a_RK: Tensor,
) -> dict[str, Tensor]:
    """Errors of a fake quantization by what is wrong, in units of their bounds; right is at most 1 everywhere.

    code: how much farther from W its level lies than the nearest. Ties and what rounding makes of them are free.
    value: Ŵ against S · level[code].
    mask: how far W lies on the wrong side of the range's end.
    """
    b_NR, a_RK, levels, weight = b_NR.double(), a_RK.double(), levels_L.double(), weight_NK.double()
    scale_NK, size_NK = b_NR @ a_RK, b_NR.abs() @ a_RK.abs()
    rank = b_NR.shape[1]
    allowed_NK = nearest_level_bound(weight, size_NK, rank=rank)
    known_NK = codes_NK.long().clamp_max(len(levels) - 1)
    value_NK = scale_NK * levels[known_NK]
    nearest_NK = (weight[..., None] - scale_NK[..., None] * levels).abs().amin(-1)
    excess_NK = ((weight - value_NK).abs() - nearest_NK) / allowed_NK
    bound_NK = error_bound(
        value_NK, Magnitudes(terms=value_NK.abs(), factors=size_NK, inputs=torch.zeros_like(size_NK)), steps=1,
        rank=rank, roundings=1, compute=torch.float32, result=fake_NK.dtype,
    )  # fmt: skip
    # Distance of W to the nearer end of [S · lowest, S · highest], positive within.
    sign_NK = torch.where(scale_NK < 0, -1.0, 1.0)
    depth_NK = torch.minimum(
        sign_NK * weight - scale_NK.abs() * levels[0], scale_NK.abs() * levels[-1] - sign_NK * weight
    )
    return {
        "code": torch.where(codes_NK < len(levels), excess_NK, torch.inf),
        "value": (fake_NK.double() - value_NK).abs() / bound_NK,
        "mask": torch.where(inside_NK, -depth_NK, depth_NK) / allowed_NK,
    }
