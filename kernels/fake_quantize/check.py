"""When a fake quantization is right, in units of bounds (`reference.error_bounds`), and how it is tried."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lords_bench.kernels.common.check_case import CheckCase, Trial
from lords_bench.kernels.common.entry import kernel_module
from lords_bench.reference.error_bounds import Magnitudes, error_bound, nearest_level_bound

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder


def fake_quantization(case: CheckCase, _decoder: "Decoder | None") -> Trial:
    """W around the case's own weight, so that all levels and both ends occur; in the dtype of x."""
    own_NK = case.values_NK * (case.b_NR.double() @ case.a_RK.double())
    noise_NK = torch.randn(own_NK.shape, generator=torch.Generator().manual_seed(2)).to(own_NK)
    weight_NK = (own_NK * (1 + 0.3 * noise_NK)).to(case.x_MK.dtype)

    def launch() -> tuple[Tensor, ...]:
        found = kernel_module("fake_quantize.launch").launch(weight_NK, case.b_NR, case.a_RK, case.levels_L)
        return found.weight_NK, found.codes_NK, found.inside_NK

    def errors(found: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        fake_NK, codes_NK, inside_NK = found
        return fake_quantize_errors(weight_NK, fake_NK, codes_NK, inside_NK, case.levels_L, case.b_NR, case.a_RK)

    return Trial(inputs=(weight_NK, case.b_NR, case.a_RK), launch=launch, errors=errors)


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
