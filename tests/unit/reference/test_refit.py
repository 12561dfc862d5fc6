import pytest
import torch
from torch import Tensor

from lords_bench.reference.feedback import assign_feedback, feedback_targets, plan_feedback
from lords_bench.reference.fields import BlockField, Field, LowRankField
from lords_bench.reference.hessian import hessian_error_N
from lords_bench.reference.refit import (
    refit_a_hessian,
    refit_b_hessian,
    refit_blocks,
    refit_field,
    refit_to_targets,
)

N, K, BLOCK, RANK = 7, 24, 6, 3
LEVELS_L = torch.tensor([-1.0, -0.4, 0.0, 0.3, 1.0], dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_hessian(k: int = K) -> Tensor:
    x_MK = normal(5 * k, k, seed=1) + normal(5 * k, 1, seed=2)
    return x_MK.T @ x_MK / len(x_MK)


def make_values(*, seed: int = 3) -> Tensor:
    return LEVELS_L[torch.randint(len(LEVELS_L), (N, K), generator=torch.Generator().manual_seed(seed))]


def make_low_rank() -> LowRankField:
    return LowRankField(b_NR=normal(N, RANK, seed=4), a_RK=normal(RANK, K, seed=5))


def make_blocks() -> BlockField:
    return BlockField(scale_NG=1.0 + normal(N, K // BLOCK, seed=6).square(), block=BLOCK)


def error_of(weight_NK: Tensor, values_NK: Tensor, field: Field, hessian_KK: Tensor) -> Tensor:
    return hessian_error_N(weight_NK, values_NK * field.expand(), hessian_KK)


def least_squares(design: Tensor, target: Tensor) -> Tensor:
    """The dense answer, by another road than normal equations."""
    return torch.linalg.lstsq(design, target.unsqueeze(1), driver="gelsd").solution.squeeze(1)


def test_block_scales_are_the_dense_least_squares_of_the_outputs_row_by_row() -> None:
    weight_NK, values_NK, hessian_KK = normal(N, K), make_values(), make_hessian()
    root_KK = torch.linalg.cholesky(hessian_KK).T

    field = refit_blocks(weight_NK, values_NK, make_blocks(), hessian_KK)

    membership_KG = torch.eye(K // BLOCK, dtype=torch.float64).repeat_interleave(BLOCK, dim=0)
    for row in range(N):
        design = root_KK @ (values_NK[row].unsqueeze(1) * membership_KG)
        expected_G = least_squares(design, root_KK @ weight_NK[row])
        torch.testing.assert_close(field.scale_NG[row], expected_G, rtol=1e-9, atol=1e-9)


def test_b_is_the_dense_least_squares_of_the_outputs_row_by_row() -> None:
    weight_NK, values_NK, hessian_KK, start = normal(N, K), make_values(), make_hessian(), make_low_rank()
    root_KK = torch.linalg.cholesky(hessian_KK).T

    field = refit_b_hessian(weight_NK, values_NK, start, hessian_KK)

    assert torch.equal(field.a_RK, start.a_RK)
    for row in range(N):
        design = root_KK @ (values_NK[row] * start.a_RK).T
        expected_R = least_squares(design, root_KK @ weight_NK[row])
        torch.testing.assert_close(field.b_NR[row], expected_R, rtol=1e-9, atol=1e-9)


def test_conjugate_gradients_on_a_reach_the_dense_least_squares_over_all_rows() -> None:
    weight_NK, values_NK, hessian_KK, start = normal(N, K), make_values(), make_hessian(), make_low_rank()
    root_KK = torch.linalg.cholesky(hessian_KK).T
    # Column (r, j) of the design is the output of A = e_r e_jᵀ.
    design = torch.einsum("nr,nk,mk->nmrk", start.b_NR, values_NK, root_KK).reshape(N * K, RANK * K)
    expected_RK = least_squares(design, (weight_NK @ root_KK.T).flatten()).view(RANK, K)
    best = LowRankField(b_NR=start.b_NR, a_RK=expected_RK)

    field = refit_a_hessian(weight_NK, values_NK, start, hessian_KK, steps=200)

    reached = error_of(weight_NK, values_NK, field, hessian_KK).sum()
    assert torch.equal(field.b_NR, start.b_NR)
    assert reached == pytest.approx(float(error_of(weight_NK, values_NK, best, hessian_KK).sum()), rel=1e-6)


def test_a_few_steps_on_a_take_most_of_the_way() -> None:
    weight_NK, values_NK, hessian_KK, start = normal(N, K), make_values(), make_hessian(), make_low_rank()

    errors = [
        float(
            error_of(
                weight_NK, values_NK, refit_a_hessian(weight_NK, values_NK, start, hessian_KK, steps=steps), hessian_KK
            ).sum()
        )
        for steps in (0, 4, 200)
    ]

    assert errors[1] - errors[2] < 0.2 * (errors[0] - errors[2])


@pytest.mark.parametrize("make_field", [make_low_rank, make_blocks], ids=["low-rank", "blocks"])
def test_a_weight_that_is_the_values_times_a_field_keeps_that_field(make_field: type[Field]) -> None:
    values_NK, planted = make_values(), make_field()
    weight_NK = values_NK * planted.expand()

    field = refit_field(weight_NK, values_NK, planted, make_hessian())

    torch.testing.assert_close(field.expand(), planted.expand(), rtol=1e-9, atol=1e-9)


def test_b_finds_the_planted_one_exactly() -> None:
    values_NK, planted = make_values(), make_low_rank()
    weight_NK = values_NK * planted.expand()
    start = LowRankField(b_NR=torch.ones_like(planted.b_NR), a_RK=planted.a_RK)

    field = refit_b_hessian(weight_NK, values_NK, start, make_hessian())

    torch.testing.assert_close(field.b_NR, planted.b_NR, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("make_field", [make_low_rank, make_blocks], ids=["low-rank", "blocks"])
def test_rows_whose_values_are_all_zero_keep_their_scales(make_field: type[Field]) -> None:
    values_NK, start = make_values(), make_field()
    values_NK[2] = 0.0

    field = refit_field(normal(N, K), values_NK, start, make_hessian())

    own = field.b_NR if isinstance(field, LowRankField) else field.scale_NG
    before = start.b_NR if isinstance(start, LowRankField) else start.scale_NG
    assert torch.equal(own[2], before[2])
    assert bool(torch.isfinite(field.expand()).all())


@pytest.mark.parametrize("make_field", [make_low_rank, make_blocks], ids=["low-rank", "blocks"])
def test_a_fit_to_targets_lowers_their_weighted_distance(make_field: type[Field]) -> None:
    weight_NK, field, hessian_KK = normal(N, K), make_field(), make_hessian()
    plan = plan_feedback(hessian_KK, dtype=torch.float64)
    codes_NK = assign_feedback(weight_NK, field.expand(), LEVELS_L, plan)
    values_NK = LEVELS_L[codes_NK.int()]
    targets_NK = feedback_targets(weight_NK, values_NK * field.expand(), plan)

    fitted = refit_to_targets(targets_NK, values_NK, field, plan.pivot_K)

    def distance(field: Field) -> float:
        return float(((targets_NK - values_NK * field.expand()).square() * plan.pivot_K).sum())

    assert distance(fitted) < 0.9 * distance(field)


def test_block_scales_fitted_to_targets_are_the_weighted_mean_ratio_of_each_block() -> None:
    targets_NK = torch.tensor([[2.0, 0.0, 6.0, 1.0]], dtype=torch.float64)
    values_NK = torch.tensor([[1.0, 0.5, 0.0, 0.0]], dtype=torch.float64)
    pivot_K = torch.tensor([1.0, 4.0, 1.0, 1.0], dtype=torch.float64)
    start = BlockField(scale_NG=torch.tensor([[9.0, 7.0]], dtype=torch.float64), block=2)

    field = refit_to_targets(targets_NK, values_NK, start, pivot_K)

    # (1·2·1 + 4·0·½) / (1·1 + 4·¼) = 1; the second block has no values, so it stays.
    assert field.scale_NG.tolist() == [[1.0, 7.0]]
