"""Factors of a low-rank scale: the same S in a form that bears rounding, or a refusal."""

import pytest
import torch

from lords_bench.errors import WeightError
from lords_bench.quant import named_codebook
from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.fields import BlockField, LowRankField
from lords_bench.reference.lowrank import balanced, rounded, squared_error, truncated_svd, zero_fit


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_balancing_keeps_the_scale() -> None:
    field = LowRankField(b_NR=normal(40, 3) * torch.tensor([1e-6, 1.0, 1e4]), a_RK=normal(3, 60))

    torch.testing.assert_close(balanced(field).expand(), field.expand(), rtol=1e-4, atol=1e-3)


def test_balancing_gives_each_rank_one_largest_magnitude() -> None:
    field = balanced(LowRankField(b_NR=normal(40, 3) * 1e4, a_RK=normal(3, 60) * 1e-5))

    torch.testing.assert_close(field.b_NR.abs().amax(dim=0), field.a_RK.abs().amax(dim=1))


def test_balancing_takes_cancelling_ranks_apart() -> None:
    """Two nearly collinear ranks of size 1e3 that leave an S of size 1 would lose all of it in float16."""
    b, a, small = normal(40, 1), normal(1, 60), normal(40, 1, seed=1)
    field = LowRankField(b_NR=torch.cat((1000 * b, 1000 * b + small), dim=1), a_RK=torch.cat((a, -a)))
    assert (field.to_dtype(torch.float16).expand() - field.expand()).norm() > 0.1 * field.expand().norm()

    stored = balanced(field).to_dtype(torch.float16)

    assert (stored.expand() - field.expand()).norm() < 1e-3 * field.expand().norm()


def test_balancing_keeps_small_and_zero_rows_to_their_own_precision() -> None:
    field = LowRankField(b_NR=normal(40, 2), a_RK=normal(2, 60))
    field.b_NR[3] *= 1e-12
    field.b_NR[5] = 0.0

    scale = balanced(field).expand()

    torch.testing.assert_close(scale[3] * 1e12, field.expand()[3] * 1e12, rtol=1e-4, atol=1e-4)
    assert not scale[5].any()


@pytest.mark.parametrize(("magnitude", "dtype"), [(1e-30, "float16"), (1e30, "float16")])
def test_scales_outside_the_storage_dtype_are_refused_with_the_remedy(magnitude: float, dtype: str) -> None:
    field = balanced(LowRankField(b_NR=normal(8, 2) * magnitude, a_RK=normal(2, 8)))

    with pytest.raises(WeightError, match=f"{dtype}; use scale_dtype='bfloat16' or 'float32'"):
        rounded(field, getattr(torch, dtype))
    assert torch.isfinite(rounded(field, torch.bfloat16).expand()).all()


def test_the_truncated_svd_is_the_best_approximation_of_the_expanded_blocks() -> None:
    blocks = BlockField(scale_NG=normal(20, 6).abs() + 0.1, block=5)
    left, sigma, right = torch.linalg.svd(blocks.expand(), full_matrices=False)

    field = truncated_svd(blocks, 2, seed=0)

    torch.testing.assert_close(field.expand(), (left[:, :2] * sigma[:2]) @ right[:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(field.b_NR.norm(dim=0), (sigma[:2]).sqrt())
    torch.testing.assert_close(field.a_RK.norm(dim=1), (sigma[:2]).sqrt())


def test_ranks_beyond_the_blocks_leave_the_scale_alone_but_can_move() -> None:
    blocks = BlockField(scale_NG=normal(20, 2).abs() + 0.1, block=5)

    field = truncated_svd(blocks, 4, seed=0)

    torch.testing.assert_close(field.expand(), blocks.expand())
    assert (field.a_RK.abs().amax(dim=1) > 0).all()


def test_the_squared_error_is_that_of_the_nearest_levels() -> None:
    weight, field = normal(9, 20), LowRankField(b_NR=normal(9, 2, seed=1), a_RK=normal(2, 20, seed=2))
    levels, importance = levels_tensor(named_codebook("nf2")), torch.arange(20.0)

    distance = (weight.unsqueeze(2) - field.expand().unsqueeze(2) * levels).abs().amin(dim=2)

    assert squared_error(weight, field, levels) == pytest.approx(float(distance.square().sum()), rel=1e-5)
    weighted = squared_error(weight, field, levels, input_weight_K=importance)
    assert weighted == pytest.approx(float((distance.square() * importance).sum()), rel=1e-5)


def test_an_error_that_is_not_a_number_counts_as_infinite() -> None:
    field = LowRankField(b_NR=torch.full((4, 1), torch.nan), a_RK=torch.ones(1, 8))

    assert squared_error(normal(4, 8), field, levels_tensor(named_codebook("nf2"))) == float("inf")


def test_a_weight_of_zeros_has_a_scale_of_zeros() -> None:
    fit = zero_fit(torch.zeros(4, 6), levels_tensor(named_codebook("nf4")), 2)

    assert fit.field.rank == 2
    assert not fit.field.expand().any()
