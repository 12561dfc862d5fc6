"""Integer groups with a zero point, rounded to nearest: the baseline most inference engines call "int-RTN".

W ≈ (code - zero) · scale per group of G consecutive inputs, code and zero integers of `bits` bits; the range of a
group is stretched to hold 0, so that 0 is exact. Costs (scale bits + `bits`)/G beyond the codes: at block 64 and 4
bits 0.0625 bits per weight more than a block format without zero points.

Letters beside the usual ones: G groups of a row, J inputs of a group.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lords_bench.reference.fields import round_scales
from lords_bench.reference.panels import compute_dtype


class AffineCodes(NamedTuple):
    """Codes and zero points (uint8) and scales (compute dtype, already rounded to the storage dtype)."""

    codes_NK: Tensor
    scale_NG: Tensor
    zero_NG: Tensor


@torch.no_grad()
def quantize_affine(weight_NK: Tensor, block: int, bits: int, scale_dtype: torch.dtype) -> AffineCodes:
    """Round a weight to the integer grid of every group; K must be a multiple of `block`.

    scale = (max(w, 0) - min(w, 0)) / (2^bits - 1), rounded to `scale_dtype`; zero = round(-min/scale);
    code = round(w/scale) + zero; both kept in 0…2^bits - 1. A group of zeros has scale 0 and code 0.

    Raises:
        WeightError: a scale is too large for `scale_dtype`, or all are too small.
    """
    largest_code = (1 << bits) - 1
    dtype = compute_dtype(weight_NK.dtype)
    blocks_NGJ = weight_NK.to(dtype).reshape(weight_NK.shape[0], -1, block)
    low_NG = blocks_NGJ.amin(dim=2).clamp_max(0.0)
    high_NG = blocks_NGJ.amax(dim=2).clamp_min(0.0)
    scale_NG = round_scales((high_NG - low_NG) / largest_code, scale_dtype)
    divisor_NG = torch.where(scale_NG > 0, scale_NG, torch.ones_like(scale_NG))
    zero_NG = (-low_NG / divisor_NG).round().clamp_(0, largest_code)
    codes_NGJ = ((blocks_NGJ / divisor_NG.unsqueeze(2)).round() + zero_NG.unsqueeze(2)).clamp_(0, largest_code)
    return AffineCodes(codes_NGJ.flatten(1).to(torch.uint8), scale_NG, zero_NG.to(torch.uint8))


def dequantize_affine(codes_NK: Tensor, scale_NG: Tensor, zero_NG: Tensor) -> Tensor:
    """(code - zero) · scale in the dtype of the scales."""
    codes_NGJ = codes_NK.to(scale_NG.dtype).view(*scale_NG.shape, -1)
    return ((codes_NGJ - zero_NG.to(scale_NG.dtype).unsqueeze(2)) * scale_NG.unsqueeze(2)).flatten(1)
