"""`quantize`: one weight, one `QuantSpec`, and the three choices behind every method composed.

    scale field   START_FIELDS  where the scales (and learned levels) start
    levels        QuantSpec     a codebook, or learned beside the scales
    assignment    nearest       the level nearest to W/S, after the scales were rounded to their storage dtype
                  feedback      `calibrated`: error feedback, alternating with a refit of the scales

To add a way of finding scales: a function of the `StartField` kind and a line in `START_FIELDS`.
"""

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import pad

from lords_bench.errors import WeightError
from lords_bench.quant import QuantSpec, Scales, named_codebook, require_spec
from lords_bench.reference.affine import affine_field, assign_affine
from lords_bench.reference.blocks import (
    absmax_field,
    absmax_field_and_levels,
    assign_blocks,
    optimised_field,
    optimised_field_and_levels,
)
from lords_bench.reference.calibrated import quantize_with_feedback
from lords_bench.reference.codebooks import assign_nearest, levels_tensor
from lords_bench.reference.fields import BlockField, Field
from lords_bench.reference.hessian import check_hessian
from lords_bench.reference.lords_paper import fit_paper
from lords_bench.reference.lords_refined import LowRankFit, fit_refined
from lords_bench.reference.panels import compute_dtype
from lords_bench.reference.storage import pack_weight, stored_field
from lords_bench.reference.validate import check_input_weight, check_weight
from lords_bench.reference.weights import STORAGE_DTYPES, QuantizedWeight, needs_stored_levels
from lords_bench.reference.workers import single_threaded

StartField = Callable[[Tensor, QuantSpec, Tensor, Tensor | None], tuple[Field, Tensor]]
"""(weight_NK, spec, levels_L, input_weight_K) -> (field, levels_L); learned levels start from those given."""


@torch.no_grad()
def quantize(
    weight_NK: Tensor,
    spec: QuantSpec,
    *,
    hessian_KK: Tensor | None = None,
    input_weight_K: Tensor | None = None,
) -> QuantizedWeight:
    """Quantize one linear weight; the same weight and spec give the same bits on one processor model, by any threads.

    Args:
        weight_NK: float16, bfloat16, float32 or float64, any device; computes in float64 for float64, else float32.
        spec: what to do.
        hessian_KK: mean of x xᵀ over calibration inputs x_K; needed where `spec.needs_hessian`, else not looked at.
        input_weight_K: non-negative weights of the squared error per input. None is 1, or the diagonal of the Hessian
            where that is used. Absmax scales with fixed levels and affine scales minimise nothing, so they ignore it.

    Returns:
        A `LordsWeight`, `BlockwiseWeight` or `AffineWeight` on the device of the weight.

    Raises:
        WeightError: the weight is not a finite, non-empty float matrix, the Hessian is missing or misshapen, or the
            scales are too large or too small for their storage dtype.
        SpecError: no spec is given, its rank is above min(N, K), or its choices do not go together.
    """
    spec = require_spec(spec)
    weight_NK = check_weight(weight_NK)
    with single_threaded(weight_NK.device):
        return _quantize(weight_NK, spec, hessian_KK, input_weight_K)


def _quantize(
    weight_NK: Tensor, spec: QuantSpec, hessian_KK: Tensor | None, input_weight_K: Tensor | None
) -> QuantizedWeight:
    k = weight_NK.shape[1]
    if input_weight_K is not None:
        input_weight_K = check_input_weight(input_weight_K, k).to(weight_NK.device)
    dtype = compute_dtype(weight_NK.dtype)
    if spec.scales == "affine":
        levels_L = torch.arange(1 << spec.bits_per_code, dtype=dtype, device=weight_NK.device)
    else:
        codebook = spec.codebook or named_codebook(f"nf{spec.bits_per_code}")
        levels_L = levels_tensor(codebook, dtype=dtype, device=weight_NK.device)
    if spec.needs_hessian:
        hessian_KK = check_hessian(hessian_KK, k)
        if input_weight_K is None:
            input_weight_K = check_input_weight(hessian_KK.diagonal(), k).to(weight_NK.device)
    missing = 0 if spec.is_low_rank else -k % spec.block
    if missing:
        # A partial last block is filled up with weights of zero that no one weighs and no input reaches.
        if input_weight_K is None:
            input_weight_K = torch.ones(k, dtype=torch.float64, device=weight_NK.device)
        weight_NK, input_weight_K = pad(weight_NK, (0, missing)), pad(input_weight_K, (0, missing))
        hessian_KK = None if hessian_KK is None else pad(hessian_KK, (0, missing, 0, missing))
    quantize_by = _feedback if spec.assignment == "feedback" else _nearest
    codes_NK, field, levels_L = quantize_by(weight_NK, spec, levels_L, hessian_KK, input_weight_K)
    return pack_weight(spec, codes_NK[:, :k], field, levels_L)


def _nearest(
    weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor, _hessian_KK: Tensor | None, input_weight_K: Tensor | None
) -> tuple[Tensor, Field, Tensor]:
    """Codes, the field as it is stored, levels."""
    field, levels_L = _start_field(weight_NK, spec, levels_L, input_weight_K)
    storable = stored_field(field, spec)
    # bitsandbytes finds the codes before it compresses the scales; done alike, codes and scales agree with it.
    grid = field if spec.double_quant else storable
    if spec.scales == "affine":
        assert isinstance(grid, BlockField)
        codes_NK = assign_affine(weight_NK, grid, spec.bits_per_code)
    elif isinstance(grid, BlockField):
        codes_NK = assign_blocks(weight_NK, grid, levels_L)
    else:
        codes_NK = assign_nearest(weight_NK, grid.expand(), levels_L)
    return codes_NK, storable, levels_L


def _feedback(
    weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor, hessian_KK: Tensor | None, input_weight_K: Tensor | None
) -> tuple[Tensor, Field, Tensor]:
    """Codes, the field as it is stored, levels."""
    start, levels_L = _start_field(weight_NK, spec, levels_L, input_weight_K)
    fit = quantize_with_feedback(weight_NK, spec, hessian_KK, field=start, levels_L=levels_L)
    return fit.codes_NK, fit.field, fit.levels_L


def _start_field(
    weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor, input_weight_K: Tensor | None
) -> tuple[Field, Tensor]:
    """Scales before rounding, and levels rounded to what is stored of them."""
    assert spec.scales is not None
    field, levels_L = START_FIELDS[spec.scales](weight_NK, spec, levels_L, input_weight_K)
    if not bool(torch.isfinite(levels_L).all()):
        raise WeightError("learned levels overflowed; scale the weight to a largest magnitude near 1")
    return field, levels_L.to(torch.float32).to(levels_L.dtype) if needs_stored_levels(spec) else levels_L


def _absmax(
    weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor, input_weight_K: Tensor | None
) -> tuple[Field, Tensor]:
    if spec.levels == "learned":
        return absmax_field_and_levels(weight_NK, spec.block, levels_L, input_weight_K=input_weight_K)
    return absmax_field(weight_NK, spec.block), levels_L


def _optimised(
    weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor, input_weight_K: Tensor | None
) -> tuple[Field, Tensor]:
    if spec.levels == "learned":
        return optimised_field_and_levels(weight_NK, spec.block, levels_L, input_weight_K=input_weight_K)
    return optimised_field(weight_NK, spec.block, levels_L, input_weight_K=input_weight_K), levels_L


def _affine(
    weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor, _input_weight_K: Tensor | None
) -> tuple[Field, Tensor]:
    return affine_field(weight_NK, spec.block, spec.bits_per_code), levels_L


def _low_rank(fit_function: Callable[..., LowRankFit]) -> StartField:
    def start(
        weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor, input_weight_K: Tensor | None
    ) -> tuple[Field, Tensor]:
        fit = fit_function(
            weight_NK,
            levels_L,
            spec.rank_for(*_shape(weight_NK)),
            block=spec.block,
            learn_levels=spec.levels == "learned",
            input_weight_K=input_weight_K,
            scale_dtype=STORAGE_DTYPES[spec.scale_dtype],
            seed=spec.seed,
        )
        return fit.field, fit.levels_L

    return start


START_FIELDS: MappingProxyType[Scales, StartField] = MappingProxyType(
    {
        "absmax": _absmax,
        "optimised": _optimised,
        "affine": _affine,
        "low-rank": _low_rank(fit_refined),
        "low-rank-paper": _low_rank(fit_paper),
    }
)


def _shape(matrix_NK: Tensor) -> tuple[int, int]:
    n, k = matrix_NK.shape
    return n, k
