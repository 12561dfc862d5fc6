"""Rows and columns brought to one size."""

import torch

from lords_bench.reference.sinkhorn import normalise


def structured_weight() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, 50, generator=generator)
    return weight * torch.logspace(-3, 3, 30).unsqueeze(1) * torch.logspace(2, -2, 50)


def test_the_parts_multiply_to_the_weight() -> None:
    weight = structured_weight()

    normal = normalise(weight)

    torch.testing.assert_close(normal.row_N.unsqueeze(1) * normal.unit_NK * normal.column_K, weight)


def test_rows_and_columns_have_unit_size() -> None:
    square = normalise(structured_weight()).unit_NK.square()

    torch.testing.assert_close(square.mean(dim=0), torch.ones(50), rtol=1e-2, atol=0)
    torch.testing.assert_close(square.mean(dim=1), torch.ones(30), rtol=1e-2, atol=0)


def test_zero_rows_and_columns_stay_zero_and_finite() -> None:
    weight = structured_weight()
    weight[4], weight[:, 7] = 0.0, 0.0

    normal = normalise(weight)

    assert torch.isfinite(normal.unit_NK).all()
    assert not normal.unit_NK[4].any()
    assert normal.row_N[4] == 1.0
    assert normal.column_K[7] == 1.0


def test_extreme_magnitudes_neither_overflow_nor_vanish() -> None:
    weight = structured_weight()

    for magnitude in (1e-30, 1e30):
        torch.testing.assert_close(
            normalise(weight * magnitude).unit_NK, normalise(weight).unit_NK, rtol=1e-4, atol=1e-5
        )
