"""Integer groups with a zero point: what most inference engines call "int", rounded to nearest or by GPTQ.

W ≈ (code - zero) · scale per group of G consecutive inputs, code and zero integers of `bits` bits; the range of a
group is stretched to hold 0, so that 0 is exact. Costs (scale bits + `bits`)/G beyond the codes: at block 64 and 4
bits 0.0625 bits per weight more than a block format without zero points.

As a field this is W ≈ low + code · scale with low = -zero · scale (`BlockField.low_NG`), so an error in W is one in
W - low against levels 0 … 2^bits - 1, and what assigns codes to block scales assigns them here as well.

Letters beside the usual ones: G groups of a row, J inputs of a group.
"""

import torch
from torch import Tensor

from lords_bench.reference.fields import BlockField
from lords_bench.reference.panels import compute_dtype


@torch.no_grad()
def affine_field(weight_NK: Tensor, block: int, bits: int) -> BlockField:
    """Scale and lower end of every group, in the compute dtype, before any rounding; `block` must divide K.

    low = min(w, 0); scale = (max(w, 0) - low) / (2^bits - 1), so that a group of zeros has scale 0.
    """
    blocks_NGJ = weight_NK.to(compute_dtype(weight_NK.dtype)).reshape(weight_NK.shape[0], -1, block)
    low_NG = blocks_NGJ.amin(dim=2).clamp_max(0.0)
    high_NG = blocks_NGJ.amax(dim=2).clamp_min(0.0)
    return BlockField(scale_NG=(high_NG - low_NG) / ((1 << bits) - 1), low_NG=low_NG, block=block)


def zero_points(low_NG: Tensor, scale_NG: Tensor, levels: int) -> Tensor:
    """round(-low / scale) within 0 … levels - 1, in the dtype of the scales; 0 where the scale is 0."""
    divisor_NG = torch.where(scale_NG != 0, scale_NG, torch.ones_like(scale_NG))
    return (-low_NG / divisor_NG).round().clamp_(0, levels - 1)


@torch.no_grad()
def assign_affine(weight_NK: Tensor, field: BlockField, bits: int) -> Tensor:
    """Codes round(w / scale) + zero within 0 … 2^bits - 1 (uint8), for a field as it is stored.

    Rounding w and zero apart keeps 0 exact and is what engines do.
    """
    assert field.low_NG is not None
    zero_NG = zero_points(field.low_NG, field.scale_NG, 1 << bits)
    divisor_NG = torch.where(field.scale_NG != 0, field.scale_NG, torch.ones_like(field.scale_NG))
    blocks_NGJ = weight_NK.to(field.scale_NG.dtype).reshape(*field.scale_NG.shape, field.block)
    codes_NGJ = (blocks_NGJ / divisor_NG.unsqueeze(2)).round() + zero_NG.unsqueeze(2)
    return codes_NGJ.clamp_(0, (1 << bits) - 1).flatten(1).to(torch.uint8)


def dequantize_affine(codes_NK: Tensor, scale_NG: Tensor, zero_NG: Tensor, *, block: int) -> Tensor:
    """(code - zero) · scale in the dtype of the scales; the last group may be partial."""
    k, dtype = codes_NK.shape[1], scale_NG.dtype
    scale_NK, zero_NK = (group.to(dtype).repeat_interleave(block, dim=1)[:, :k] for group in (scale_NG, zero_NG))
    return (codes_NK.to(dtype) - zero_NK) * scale_NK
