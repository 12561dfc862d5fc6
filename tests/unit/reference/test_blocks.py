"""Block scales, against cases worked by hand."""

import torch

from lords_bench.quant import named_codebook
from lords_bench.reference.blocks import (
    absmax_field,
    absmax_field_and_levels,
    assign_blocks,
    optimised_field,
    optimised_field_and_levels,
)
from lords_bench.reference.codebooks import assign_nearest, levels_tensor
from lords_bench.reference.fields import BlockField

NF3 = levels_tensor(named_codebook("nf3"))


def squared_error(
    weight_NK: torch.Tensor, field: BlockField, levels_L: torch.Tensor, input_weight_K: torch.Tensor | None = None
) -> float:
    quantized_NK = levels_L[assign_blocks(weight_NK, field, levels_L).int()] * field.expand()
    error_NK = (weight_NK - quantized_NK).double().square()
    return float((error_NK if input_weight_K is None else error_NK * input_weight_K).sum())


def gaussian(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def test_absmax_scales_are_the_largest_magnitudes() -> None:
    weight_NK = torch.tensor([[1.0, -3.0, 0.5, 0.25], [0.0, 0.0, -2.0, 2.0]])

    assert absmax_field(weight_NK, 2).scale_NG.tolist() == [[3.0, 0.5], [0.0, 2.0]]


def test_block_codes_are_those_of_the_expanded_field() -> None:
    weight_NK = gaussian(5, 48)
    field = absmax_field(weight_NK, 16)

    assert torch.equal(assign_blocks(weight_NK, field, NF3), assign_nearest(weight_NK, field.expand(), NF3))


def test_a_block_that_lies_on_the_levels_is_reproduced_exactly() -> None:
    # Only the scale 2 puts all four weights on the levels -1, 0, ½ and 1.
    weight_NK = torch.tensor([[-2.0, 0.0, 1.0, 2.0]])
    levels_L = torch.tensor([-1.0, 0.0, 0.5, 1.0])

    field = optimised_field(weight_NK, 4, levels_L)

    torch.testing.assert_close(field.scale_NG, torch.tensor([[2.0]]))


def test_the_search_clips_an_outlier_where_that_lowers_the_error() -> None:
    # Levels ±1 only: the best scale of (1, 1, 1, 4) is the mean magnitude 7/4, far below the largest one.
    weight_NK = torch.tensor([[1.0, -1.0, 1.0, 4.0]])

    field = optimised_field(weight_NK, 4, torch.tensor([-1.0, 1.0]))

    torch.testing.assert_close(field.scale_NG, torch.tensor([[1.75]]))


def test_the_search_serves_the_inputs_that_count() -> None:
    # With all weight on the last input its value is the scale: 4.
    weight_NK = torch.tensor([[1.0, -1.0, 1.0, 4.0]])

    field = optimised_field(weight_NK, 4, torch.tensor([-1.0, 1.0]), input_weight_K=torch.tensor([0.0, 0.0, 0.0, 1.0]))

    torch.testing.assert_close(field.scale_NG, torch.tensor([[4.0]]))


def test_a_block_of_zeros_keeps_scale_zero_and_dequantizes_to_zero() -> None:
    weight_NK = torch.cat([torch.zeros(1, 16), gaussian(1, 16)], dim=1)

    field = optimised_field(weight_NK, 16, NF3)

    assert field.scale_NG[0, 0] == 0.0
    assert bool(torch.isfinite(field.scale_NG).all())


def test_scales_follow_the_magnitude_of_the_weight_over_sixty_decades() -> None:
    """Squares of the largest and smallest weights here are no float32 numbers."""
    weight_NK = gaussian(4, 64)
    expected_NG = optimised_field(weight_NK, 32, NF3).scale_NG

    for magnitude in (1e-30, 1e30):
        scale_NG = optimised_field(weight_NK * magnitude, 32, NF3).scale_NG
        torch.testing.assert_close(scale_NG / magnitude, expected_NG, rtol=1e-5, atol=0.0)


def test_mirrored_levels_may_serve_a_block_better() -> None:
    """NF levels are lopsided, so a negative scale is a second codebook at no cost in bits."""
    weight_NK = gaussian(32, 64)
    factors = (0.8, 0.9, 1.0)

    plain = optimised_field(weight_NK, 64, NF3, factors=factors)
    mirrored = optimised_field(weight_NK, 64, NF3, factors=(*factors, *(-factor for factor in factors)))

    assert squared_error(weight_NK, mirrored, NF3) < squared_error(weight_NK, plain, NF3)


def test_learned_levels_lower_the_error_and_come_back_sorted_within_one() -> None:
    weight_NK = gaussian(32, 128) ** 3

    field, levels_L = optimised_field_and_levels(weight_NK, 64, NF3)

    before = squared_error(weight_NK, optimised_field(weight_NK, 64, NF3), NF3)
    assert squared_error(weight_NK, field, levels_L) < 0.8 * before
    assert torch.equal(levels_L, levels_L.sort().values)
    assert float(levels_L.abs().max()) == 1.0


def test_levels_learned_for_absmax_scales_change_the_scales_by_one_common_factor() -> None:
    weight_NK = gaussian(32, 128)

    field, levels_L = absmax_field_and_levels(weight_NK, 64, NF3)

    ratio_NG = field.scale_NG / absmax_field(weight_NK, 64).scale_NG
    torch.testing.assert_close(ratio_NG, ratio_NG[:1, :1].expand_as(ratio_NG))
    assert squared_error(weight_NK, field, levels_L) < squared_error(weight_NK, absmax_field(weight_NK, 64), NF3)


def test_float64_weights_keep_their_precision() -> None:
    weight_NK = gaussian(4, 64).double() / 3

    field, levels_L = optimised_field_and_levels(weight_NK, 32, NF3.double())

    assert (field.scale_NG.dtype, levels_L.dtype) == (torch.float64, torch.float64)
    assert not torch.equal(field.scale_NG.float().double(), field.scale_NG)
