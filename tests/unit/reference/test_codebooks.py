"""Levels and the nearest code, against cases worked by hand."""

import pytest
import torch

from lords_bench.quant import named_codebook
from lords_bench.reference.codebooks import (
    assign_nearest,
    levels_tensor,
    nearest_values,
    normalise_levels,
    refit_levels,
    round_to_levels,
)

LEVELS = torch.tensor([-1.0, 0.0, 0.5, 1.0])


def test_levels_tensor_holds_the_levels_in_order() -> None:
    levels_L = levels_tensor(named_codebook("nf4"))

    assert levels_L.dtype == torch.float32
    assert levels_L.tolist() == list(named_codebook("nf4").levels)


def test_nearest_codes_of_a_two_by_two_weight_match_those_found_by_hand() -> None:
    # W/S = [[-0.6, 0.2], [0.8, -3]]; midpoints are -0.5, 0.25 and 0.75.
    weight_NK = torch.tensor([[-1.2, 0.4], [-0.8, 6.0]])
    scale_NK = torch.tensor([[2.0, 2.0], [-1.0, -2.0]])

    codes_NK = assign_nearest(weight_NK, scale_NK, LEVELS)

    assert codes_NK.tolist() == [[0, 1], [3, 0]]
    assert codes_NK.dtype == torch.uint8


def test_a_quotient_between_two_levels_takes_the_lower_one() -> None:
    weight_NK = torch.tensor([[-0.5, 0.25, 0.75]])

    assert assign_nearest(weight_NK, torch.ones(1, 3), LEVELS).tolist() == [[0, 1, 2]]


def test_one_scale_per_row_assigns_like_the_scale_written_out() -> None:
    weight_NK = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    scale_N1 = torch.linspace(-1.0, 2.0, 6).unsqueeze(1)

    assert torch.equal(
        assign_nearest(weight_NK, scale_N1, LEVELS), assign_nearest(weight_NK, scale_N1.expand(6, 40), LEVELS)
    )


@pytest.mark.parametrize("scale", [0.0, -0.0, 1e-45, -1e-45])
def test_a_vanishing_scale_gives_a_code_and_no_nan(scale: float) -> None:
    weight_NK = torch.tensor([[0.0, 1.0, -1.0, 3e38]])

    codes_NK = assign_nearest(weight_NK, torch.full((1, 4), scale), LEVELS)

    assert LEVELS[codes_NK.int()][0, 0] == 0.0
    assert int(codes_NK.max()) < len(LEVELS)


def test_panels_do_not_change_the_codes() -> None:
    """The matrix is larger than one panel, and its last panel is shorter than the others."""
    generator = torch.Generator().manual_seed(1)
    weight_NK = torch.randn(130, 700, generator=generator)
    scale_NK = torch.randn(130, 700, generator=generator)

    codes_NK = assign_nearest(weight_NK, scale_NK, LEVELS)

    expected_NK = torch.bucketize(weight_NK * scale_NK.reciprocal(), (LEVELS[1:] + LEVELS[:-1]) / 2)
    assert torch.equal(codes_NK.long(), expected_NK)


@pytest.mark.parametrize("columns", [40, 4000])
def test_a_transposed_weight_gives_transposed_codes(columns: int) -> None:
    """Few numbers and many, which are found in different ways."""
    generator = torch.Generator().manual_seed(4)
    weight_NK, scale_NK = torch.randn(6, columns, generator=generator), torch.randn(6, columns, generator=generator)

    codes_KN = assign_nearest(weight_NK.t(), scale_NK.t(), LEVELS)

    assert torch.equal(codes_KN.t(), assign_nearest(weight_NK, scale_NK, LEVELS))


def test_nearest_values_are_the_levels_of_the_nearest_codes() -> None:
    generator = torch.Generator().manual_seed(2)
    weight_NK, scale_NK = torch.randn(9, 50, generator=generator), torch.randn(9, 50, generator=generator)
    levels_L = levels_tensor(named_codebook("nf4"))

    values_NK = nearest_values(weight_NK, scale_NK, levels_L)

    torch.testing.assert_close(values_NK, levels_L[assign_nearest(weight_NK, scale_NK, levels_L).int()])


def test_rounding_to_levels_keeps_the_shape_of_its_argument() -> None:
    quotient = torch.tensor([[[0.2]], [[0.3]]])

    assert round_to_levels(quotient, LEVELS).tolist() == [[[0.0]], [[0.5]]]


def test_float64_weights_are_compared_in_float64() -> None:
    above = 0.25 + 1e-12

    assert assign_nearest(torch.tensor([[above]], dtype=torch.float64), torch.ones(1, 1), LEVELS).tolist() == [[2]]
    assert assign_nearest(torch.tensor([[above]]), torch.ones(1, 1), LEVELS).tolist() == [[1]]


def test_refitted_levels_are_the_least_squares_levels_found_by_hand() -> None:
    # Code 0: (2·1 + 1·2) / (1² + 2²) = 4/5 at scales 1 and 2. Code 1 has no weights. Code 2: -3·-1 / 1 = 3.
    weight_NK = torch.tensor([[2.0, 1.0], [-3.0, 0.0]])
    scale_NK = torch.tensor([[1.0, 2.0], [-1.0, 0.0]])
    codes_NK = torch.tensor([[0, 0], [2, 2]], dtype=torch.uint8)

    levels_L = refit_levels(weight_NK, scale_NK, codes_NK, torch.tensor([-1.0, 0.25, 1.0]))

    torch.testing.assert_close(levels_L, torch.tensor([0.25, 0.8, 3.0]))


def test_refitted_levels_follow_the_inputs_that_count_more() -> None:
    # (1·2 + 3·6) / (1 + 3) = 5, where the unweighted mean would be 4.
    weight_NK = torch.tensor([[2.0, 6.0]])
    codes_NK = torch.zeros(1, 2, dtype=torch.uint8)

    levels_L = refit_levels(
        weight_NK, torch.ones(1, 2), codes_NK, torch.tensor([0.0, 9.0]), input_weight_K=torch.tensor([1.0, 3.0])
    )

    assert levels_L.tolist() == [5.0, 9.0]


def test_panels_do_not_change_refitted_levels() -> None:
    """Against the same sums over the whole matrix, which is larger than one panel."""
    generator = torch.Generator().manual_seed(3)
    weight_NK, scale_NK = torch.randn(130, 700, generator=generator), torch.randn(130, 700, generator=generator)
    codes_NK = assign_nearest(weight_NK, scale_NK, LEVELS)

    levels_L = refit_levels(weight_NK, scale_NK, codes_NK, LEVELS)

    chosen = [codes_NK == code for code in range(len(LEVELS))]
    expected = [float((weight_NK * scale_NK)[at].sum() / scale_NK[at].square().sum()) for at in chosen]
    torch.testing.assert_close(levels_L, torch.tensor(expected).sort().values)


def test_normalised_levels_times_their_factor_are_the_levels() -> None:
    levels_L, factor = normalise_levels(torch.tensor([-4.0, 1.0, 2.0]))

    assert levels_L.tolist() == [-1.0, 0.25, 0.5]
    assert factor == 4.0


def test_levels_that_are_all_zero_are_left_alone() -> None:
    levels_L, factor = normalise_levels(torch.zeros(4))

    assert levels_L.tolist() == [0.0] * 4
    assert factor == 1.0
