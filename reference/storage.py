"""From a scale field to what is stored of it, and from that and the codes to a weight.

A fit knows of the rounding: it asks for the `stored_field` before it assigns codes, and builds the weight from that
same field, so what is stored is what the codes were chosen for.
"""

import torch
from torch import Tensor

from lords_bench.quant import QuantSpec
from lords_bench.reference.affine import zero_points
from lords_bench.reference.double_quant import DoubleQuantized, double_quantize
from lords_bench.reference.eight_bit import LogScales, int8_factors, log_scales
from lords_bench.reference.fields import BlockField, Field, LowRankField
from lords_bench.reference.packing import pack_codes, pack_stream
from lords_bench.reference.rounding import round_scales
from lords_bench.reference.weights import (
    STORAGE_DTYPES,
    AffineWeight,
    BlockwiseWeight,
    LordsWeight,
    QuantizedWeight,
    needs_stored_levels,
)


def stored_field(field: Field, spec: QuantSpec) -> Field:
    """The field with its numbers as they are stored, kept in the present dtype; the same again changes nothing.

    Scales of double quantization are the exception: compressing them twice is not compressing them once.

    Raises:
        WeightError: a number is too large for the spec's dtype, or block scales are too small for it.
    """
    dtype = STORAGE_DTYPES[spec.scale_dtype]
    if isinstance(field, BlockField):
        return _stored_blocks(field, spec, dtype)
    if spec.scale_bits is None:
        return field.to_dtype(dtype)
    factors = int8_factors(field.b_NR, field.a_RK, dtype)
    b_NR, a_RK = factors.expand()
    return LowRankField(b_NR=b_NR.to(field.b_NR.dtype), a_RK=a_RK.to(field.a_RK.dtype), stored=factors)


def _stored_blocks(field: BlockField, spec: QuantSpec, dtype: torch.dtype) -> BlockField:
    stored: LogScales | DoubleQuantized | None = None
    if spec.double_quant:
        stored = double_quantize(field.scale_NG)
        scale_NG = stored.expand().to(field.scale_NG.dtype)
    else:
        scale_NG = round_scales(field.scale_NG, dtype)
        if spec.scale_bits is not None:
            stored = log_scales(field.scale_NG, dtype)
            scale_NG = stored.expand().to(field.scale_NG.dtype)
    low_NG = field.low_NG
    if low_NG is not None:
        low_NG = -zero_points(low_NG, scale_NG, 1 << spec.bits_per_code) * scale_NG
    return BlockField(scale_NG=scale_NG, block=field.block, low_NG=low_NG, stored=stored)


def weight_of_field(spec: QuantSpec, packed: Tensor, k: int, field: Field, levels_L: Tensor) -> QuantizedWeight:
    """The weight of packed codes and of a field that `stored_field` gave.

    Args:
        spec: what was asked for.
        packed: `packing.pack_codes` of the codes.
        k: in features.
        field: rounded to its storage.
        levels_L: kept where the spec needs them stored.
    """
    storage_dtype, shape = STORAGE_DTYPES[spec.scale_dtype], (int(packed.shape[0]), k)
    levels = levels_L.detach().to(torch.float32, copy=True) if needs_stored_levels(spec) else None
    if isinstance(field, BlockField):
        scales = field.scale_NG.to(storage_dtype) if field.stored is None else field.stored
        if field.low_NG is None:
            return BlockwiseWeight(spec=spec, shape=shape, packed=packed, scale_NG=scales, levels_L=levels)
        assert not isinstance(scales, DoubleQuantized)
        zero_NG = zero_points(field.low_NG, field.scale_NG, 1 << spec.bits_per_code).to(torch.uint8)
        return AffineWeight(
            spec=spec,
            shape=shape,
            packed=packed,
            scale_NG=scales,
            packed_zeros=pack_stream(zero_NG, spec.bits_per_code),
        )
    return LordsWeight(
        spec=spec,
        shape=shape,
        packed=packed,
        b_NR=field.b_NR.to(storage_dtype).contiguous(),
        a_RK=field.a_RK.to(storage_dtype).contiguous(),
        int8=field.stored,
        levels_L=levels,
    )


def pack_weight(spec: QuantSpec, codes_NK: Tensor, field: Field, levels_L: Tensor) -> QuantizedWeight:
    """`weight_of_field` of codes that are not packed yet."""
    return weight_of_field(spec, pack_codes(codes_NK, spec.bits_per_code), codes_NK.shape[1], field, levels_L)
