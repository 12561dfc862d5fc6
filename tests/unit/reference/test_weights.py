"""Stored weights, dequantized and weighed by hand."""

import pytest
import torch

from lords_bench.quant import Codebook, QuantSpec
from lords_bench.reference.double_quant import double_quantize
from lords_bench.reference.packing import pack_codes, pack_stream
from lords_bench.reference.weights import AffineWeight, BlockwiseWeight, LordsWeight, needs_stored_levels

# int2 has the levels -1, -1/2, 0 and 1/2.
CODES = torch.tensor([[0, 1, 2, 3], [3, 3, 0, 2]], dtype=torch.uint8)


def lords_weight(levels_L: torch.Tensor | None = None) -> LordsWeight:
    return LordsWeight(
        spec=QuantSpec(method="lords", bits=2, levels="int" if levels_L is None else "learned", rank=1),
        shape=(2, 4),
        packed=pack_codes(CODES, 2),
        b_NR=torch.tensor([[1.0], [-2.0]], dtype=torch.float16),
        a_RK=torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float16),
        levels_L=levels_L,
    )


def block_weight() -> BlockwiseWeight:
    return BlockwiseWeight(
        spec=QuantSpec(method="nf2", levels="int", block=2),
        shape=(2, 4),
        packed=pack_codes(CODES, 2),
        scale_NG=torch.tensor([[2.0, 4.0], [6.0, 8.0]], dtype=torch.float16),
        levels_L=None,
    )


def double_quantized_weight() -> BlockwiseWeight:
    return BlockwiseWeight(
        spec=QuantSpec(method="nf2", levels="int", block=2, double_quant=True),
        shape=(2, 4),
        packed=pack_codes(CODES, 2),
        scale_NG=double_quantize(torch.full((2, 2), 2.0)),
        levels_L=None,
    )


def affine_weight() -> AffineWeight:
    return AffineWeight(
        spec=QuantSpec(method="int-rtn", bits=2, block=2),
        shape=(2, 4),
        packed=pack_codes(CODES, 2),
        scale_NG=torch.tensor([[2.0, 4.0], [6.0, 8.0]], dtype=torch.float16),
        packed_zeros=pack_stream(torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8), 2),
    )


WEIGHTS = [lords_weight(), block_weight(), double_quantized_weight(), affine_weight()]
IDS = ["lords", "blockwise", "double-quant", "affine"]


def test_a_lords_weight_is_levels_times_the_product_of_its_factors() -> None:
    expected = [[-1.0, -1.0, 0.0, 2.0], [-1.0, -2.0, 6.0, 0.0]]

    assert lords_weight().dequantize().tolist() == expected


def test_learned_levels_take_the_place_of_the_codebook() -> None:
    weight = lords_weight(torch.tensor([-1.0, 0.25, 0.5, 1.0]))

    assert weight.dequantize()[0].tolist() == [-1.0, 0.5, 1.5, 4.0]


def test_a_blockwise_weight_is_levels_times_the_scale_of_the_block() -> None:
    assert block_weight().dequantize().tolist() == [[-2.0, -1.0, 0.0, 2.0], [3.0, 3.0, -8.0, 0.0]]


def test_a_double_quantized_weight_uses_the_restored_scales() -> None:
    assert double_quantized_weight().dequantize().tolist() == [[-2.0, -1.0, 0.0, 1.0], [1.0, 1.0, -2.0, 0.0]]


def test_an_affine_weight_is_code_minus_zero_times_scale() -> None:
    assert affine_weight().zeros().tolist() == [[0, 1], [2, 3]]
    assert affine_weight().dequantize().tolist() == [[0.0, 2.0, 4.0, 8.0], [6.0, 6.0, -24.0, -8.0]]


@pytest.mark.parametrize("weight", WEIGHTS, ids=IDS)
def test_codes_come_back_as_they_were_packed(weight: LordsWeight | BlockwiseWeight | AffineWeight) -> None:
    assert torch.equal(weight.codes(), CODES)


@pytest.mark.parametrize("weight", WEIGHTS, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_weight_dequantizes_into_the_dtype_asked_for(
    weight: LordsWeight | BlockwiseWeight | AffineWeight, dtype: torch.dtype
) -> None:
    weight_NK = weight.dequantize(dtype)

    assert weight_NK.dtype == dtype
    assert torch.equal(weight_NK.double(), weight.dequantize(torch.float64))


def test_float64_is_computed_in_float64() -> None:
    """A third times a third in float16 factors is no float32 number."""
    third = torch.full((2, 1), 1 / 3, dtype=torch.float16)
    factors = {"b_NR": third.repeat(1, 2), "a_RK": torch.full((2, 4), 1 / 3, dtype=torch.float16) + 1}
    weight = LordsWeight(
        spec=QuantSpec(bits=2, levels="int", rank=2),
        shape=(2, 4),
        packed=pack_codes(CODES, 2),
        levels_L=None,
        **factors,
    )

    exact = float(third[0].double() * factors["a_RK"][0, 0].double()) * 2 * -1.0

    assert float(weight.dequantize(torch.float64)[0, 0]) == exact


@pytest.mark.parametrize(
    ("weight", "stored_bytes"),
    [
        # Four codes of 2 bits are a byte a row; the K block of 128 that they begin is not stored.
        (lords_weight(), 2 * 1 + 2 * (2 + 4)),
        (lords_weight(torch.tensor([-1.0, 0.25, 0.5, 1.0])), 2 * 1 + 2 * (2 + 4) + 4 * 4),
        (block_weight(), 2 * 1 + 2 * 4),
        (double_quantized_weight(), 2 * 1 + 4 + 4 + 4),
        (affine_weight(), 2 * 1 + 2 * 4 + 1),
    ],
    ids=["lords", "lords-learned", "blockwise", "double-quant", "affine"],
)
def test_bits_per_weight_count_every_stored_byte(
    weight: LordsWeight | BlockwiseWeight | AffineWeight, stored_bytes: int
) -> None:
    assert weight.bits_per_weight == stored_bytes * 8 / (2 * 4)
    assert sum(tensor.nbytes for tensor in weight.tensors().values()) == stored_bytes


@pytest.mark.parametrize("weight", WEIGHTS, ids=IDS)
def test_a_moved_weight_has_all_its_tensors_on_the_device(
    weight: LordsWeight | BlockwiseWeight | AffineWeight,
) -> None:
    moved = weight.to("meta")

    assert {tensor.device.type for tensor in moved.tensors().values()} == {"meta"}
    assert (type(moved), moved.spec, moved.shape) == (type(weight), weight.spec, weight.shape)
    assert {tensor.device.type for tensor in weight.tensors().values()} == {"cpu"}


@pytest.mark.parametrize(
    ("levels", "stored"),
    [
        ("nf", False),
        ("fp4", False),
        ("nf4-grid7", False),
        ("learned", True),
        (Codebook(name="mine", levels=(-1.0, 0.0, 1.0)), True),
        (Codebook(name="nf4", levels=(-1.0, 0.0, 1.0)), True),
    ],
    ids=["nf", "fp4", "grid7", "learned", "own", "own-under-a-known-name"],
)
def test_only_levels_that_a_name_does_not_tell_are_stored(levels: str | Codebook, stored: bool) -> None:
    assert needs_stored_levels(QuantSpec(method="lords", levels=levels)) is stored
