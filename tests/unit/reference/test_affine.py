"""Integer groups with a zero point, worked by hand."""

import torch
from torch import Tensor

from lords_bench.quant import QuantSpec, ScaleDtype
from lords_bench.reference.affine import dequantize_affine
from lords_bench.reference.methods import quantize
from lords_bench.reference.weights import AffineWeight


def quantize_affine(weight_NK: Tensor, block: int, bits: int, scale_dtype: ScaleDtype) -> tuple[Tensor, Tensor, Tensor]:
    weight = quantize(weight_NK, QuantSpec(method="int-rtn", bits=bits, block=block, scale_dtype=scale_dtype))
    assert isinstance(weight, AffineWeight)
    return weight.codes(), weight.scales().float(), weight.zeros()


def test_codes_scales_and_zero_points_match_those_found_by_hand() -> None:
    # Range [-1, 2] in 2 bits: scale 3/3 = 1, zero 1, codes w + 1. Range [0, 6]: scale 2, zero 0, codes w / 2.
    weight_NK = torch.tensor([[-1.0, 0.2, 1.6, 2.0, 1.0, 3.2, 6.0, 4.0]])

    codes_NK, scale_NG, zero_NG = quantize_affine(weight_NK, 4, 2, "float16")

    assert scale_NG.tolist() == [[1.0, 2.0]]
    assert zero_NG.tolist() == [[1, 0]]
    assert codes_NK.tolist() == [[0, 1, 3, 3, 0, 2, 3, 2]]
    assert dequantize_affine(codes_NK, scale_NG, zero_NG, block=4).tolist() == [
        [-1.0, 0.0, 2.0, 2.0, 0.0, 4.0, 6.0, 4.0]
    ]


def test_zero_is_exact_even_where_all_weights_are_positive() -> None:
    weight_NK = torch.tensor([[5.0, 5.5, 6.0, 0.0]])

    codes_NK, scale_NG, zero_NG = quantize_affine(weight_NK, 4, 4, "float32")

    assert dequantize_affine(codes_NK, scale_NG, zero_NG, block=4)[0, 3] == 0.0


def test_a_group_of_zeros_stays_zero() -> None:
    codes_NK, scale_NG, zero_NG = quantize_affine(torch.zeros(2, 8), 4, 3, "float16")

    assert not bool(dequantize_affine(codes_NK, scale_NG, zero_NG, block=4).any())


def test_no_weight_is_further_off_than_its_grid_allows() -> None:
    """Half a step for the code, half a step for the rounding of the zero point, and the rounding of the scale."""
    weight_NK = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))

    codes_NK, scale_NG, zero_NG = quantize_affine(weight_NK, 32, 4, "float16")

    error_NK = (dequantize_affine(codes_NK, scale_NG, zero_NG, block=32) - weight_NK).abs()
    assert bool((error_NK <= 1.01 * scale_NG.repeat_interleave(32, dim=1)).all())
