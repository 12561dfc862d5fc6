import itertools

import pytest
import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.quant import named_codebook
from lords_bench.reference.codebooks import assign_nearest, levels_tensor
from lords_bench.reference.feedback import (
    SPAN_COLUMNS,
    FeedbackPlan,
    assign_feedback,
    feedback_targets,
    improve_codes,
    plan_feedback,
)
from lords_bench.reference.hessian import damped, hessian_error_N

NF3_L = levels_tensor(named_codebook("nf3"), dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_hessian(k: int, *, seed: int = 0, tokens: int | None = None) -> Tensor:
    """Correlated inputs of unequal size, well conditioned where there are more tokens than inputs."""
    x_MK = normal(tokens or 4 * k, k, seed=seed) + 0.7 * normal(tokens or 4 * k, 1, seed=seed + 1)
    x_MK = x_MK * torch.linspace(0.5, 2.0, k, dtype=torch.float64)
    return x_MK.T @ x_MK / len(x_MK)


def make_problem(n: int, k: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(weight, scale with a negative row, Hessian)."""
    weight_NK = normal(n, k, seed=seed + 10)
    scale_NK = 1.0 + 0.5 * normal(n, k, seed=seed + 20).tanh()
    scale_NK[0] *= -1.0
    return weight_NK, 2.0 * scale_NK, make_hessian(k, seed=seed)


def error_of(weight_NK: Tensor, scale_NK: Tensor, codes_NK: Tensor, hessian_KK: Tensor) -> float:
    return float(hessian_error_N(weight_NK, scale_NK * NF3_L[codes_NK.int()], hessian_KK).sum())


def textbook_gptq(weight_NK: Tensor, scale_NK: Tensor, levels_L: Tensor, plan: FeedbackPlan) -> Tensor:
    """Algorithm 1 of arXiv 2210.17323 as printed, one column at a time, from the inverse Hessian's Cholesky factor."""
    order_K = plan.order_K
    hessian_KK = plan.hessian_KK[order_K][:, order_K]
    inverse_KK = torch.linalg.cholesky(torch.linalg.inv(hessian_KK), upper=True)
    left_NK, scale_NK = weight_NK[:, order_K].clone(), scale_NK[:, order_K]
    codes_NK = torch.empty(weight_NK.shape, dtype=torch.uint8)
    for column in range(left_NK.shape[1]):
        codes_N = assign_nearest(left_NK[:, [column]], scale_NK[:, [column]], levels_L)[:, 0]
        quantized_N = scale_NK[:, column] * levels_L[codes_N.int()]
        error_N = (left_NK[:, column] - quantized_N) / inverse_KK[column, column]
        left_NK[:, column + 1 :] -= torch.outer(error_N, inverse_KK[column, column + 1 :])
        codes_NK[:, order_K[column]] = codes_N
    return codes_NK


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_the_identity_as_hessian_every_code_is_the_nearest(bits: int, dtype: torch.dtype) -> None:
    weight_NK, scale_NK, _ = (tensor.to(dtype) for tensor in make_problem(9, 200))
    levels_L = levels_tensor(named_codebook(f"nf{bits}"), dtype=dtype)
    plan = plan_feedback(torch.eye(200, dtype=dtype), dtype=dtype)

    codes_NK = assign_feedback(weight_NK, scale_NK, levels_L, plan)

    assert torch.equal(codes_NK, assign_nearest(weight_NK, scale_NK, levels_L))


def test_with_a_diagonal_hessian_and_dead_inputs_every_code_is_the_nearest() -> None:
    weight_NK, scale_NK, _ = make_problem(6, 40)
    diagonal_K = normal(40).square()
    diagonal_K[7] = 0.0

    codes_NK = assign_feedback(weight_NK, scale_NK, NF3_L, plan_feedback(diagonal_K.diag(), dtype=torch.float64))

    assert torch.equal(codes_NK, assign_nearest(weight_NK, scale_NK, NF3_L))


@pytest.mark.parametrize("k", [1, 17, SPAN_COLUMNS, 2 * SPAN_COLUMNS + 3])
def test_codes_are_those_of_the_gptq_paper_whatever_the_number_of_spans(k: int) -> None:
    weight_NK, scale_NK, hessian_KK = make_problem(8, k)
    plan = plan_feedback(hessian_KK, dtype=torch.float64)

    codes_NK = assign_feedback(weight_NK, scale_NK, NF3_L, plan)

    assert torch.equal(codes_NK, textbook_gptq(weight_NK, scale_NK, NF3_L, plan))


def test_a_plan_factorises_the_damped_hessian_in_visiting_order_largest_input_first() -> None:
    hessian_KK = make_hessian(20)

    plan = plan_feedback(hessian_KK, damping=0.05, dtype=torch.float64)

    pivots_K = plan.pivot_K[plan.order_K]
    ordered_KK = damped(hessian_KK, 0.05)[plan.order_K][:, plan.order_K]
    torch.testing.assert_close(plan.mixing_KK * pivots_K @ plan.mixing_KK.T, ordered_KK, rtol=1e-12, atol=1e-12)
    assert torch.equal(plan.mixing_KK, plan.mixing_KK.triu())
    assert bool((ordered_KK.diagonal().diff() <= 0).all())


def test_pivots_times_squared_distance_to_the_targets_is_the_output_error_for_any_codes() -> None:
    weight_NK, scale_NK, hessian_KK = make_problem(5, 30)
    plan = plan_feedback(hessian_KK, dtype=torch.float64)
    codes_NK = torch.randint(8, (5, 30), generator=torch.Generator().manual_seed(0))
    quantized_NK = scale_NK * NF3_L[codes_NK]

    targets_NK = feedback_targets(weight_NK, quantized_NK, plan)

    by_target_N = ((targets_NK - quantized_NK).square() * plan.pivot_K).sum(dim=1)
    torch.testing.assert_close(
        by_target_N, hessian_error_N(weight_NK, quantized_NK, plan.hessian_KK), rtol=1e-11, atol=0
    )


def test_feedback_and_sweeps_come_close_to_the_best_of_all_codes_of_a_tiny_row() -> None:
    """All 8^4 codes of four inputs are tried. Feedback is greedy, so it may miss the best, never beat it."""
    weight_NK, scale_NK, hessian_KK = make_problem(40, 4)
    plan = plan_feedback(hessian_KK, dtype=torch.float64)
    every_code = torch.tensor(list(itertools.product(range(8), repeat=4)))
    best_N = torch.stack(
        [
            hessian_error_N(w_K.expand(len(every_code), 4), s_K * NF3_L[every_code], plan.hessian_KK).min()
            for w_K, s_K in zip(weight_NK, scale_NK, strict=True)
        ]
    )

    codes_NK = assign_feedback(weight_NK, scale_NK, NF3_L, plan)
    improved_NK = improve_codes(weight_NK, scale_NK, NF3_L, codes_NK, plan)

    nearest_NK = assign_nearest(weight_NK, scale_NK, NF3_L)
    nearest, feedback, improved = (
        hessian_error_N(weight_NK, scale_NK * NF3_L[codes.int()], plan.hessian_KK)
        for codes in (nearest_NK, codes_NK, improved_NK)
    )
    assert bool((improved >= best_N * (1 - 1e-12)).all())
    assert best_N.sum() <= improved.sum() <= feedback.sum() < nearest.sum()
    assert improved.sum() - best_N.sum() < 0.3 * (nearest.sum() - best_N.sum())


def test_sweeps_end_where_no_single_code_can_be_improved() -> None:
    weight_NK, scale_NK, hessian_KK = make_problem(3, 10)
    plan = plan_feedback(hessian_KK, dtype=torch.float64)
    codes_NK = assign_nearest(weight_NK, scale_NK, NF3_L)
    for _ in range(20):
        codes_NK = improve_codes(weight_NK, scale_NK, NF3_L, codes_NK, plan)

    error = error_of(weight_NK, scale_NK, codes_NK, plan.hessian_KK)

    for row, column, code in itertools.product(range(3), range(10), range(8)):
        other_NK = codes_NK.clone()
        other_NK[row, column] = code
        assert error_of(weight_NK, scale_NK, other_NK, plan.hessian_KK) >= error * (1 - 1e-12)


def test_feedback_lowers_the_output_error_on_average_over_correlated_inputs() -> None:
    """Not on every row: greedy feedback can lose against the nearest codes. Over 20 layers it must win clearly."""
    ratios = []
    for seed in range(20):
        weight_NK, scale_NK, hessian_KK = make_problem(16, 48, seed=100 * seed)
        plan = plan_feedback(hessian_KK, dtype=torch.float64)
        fed = assign_feedback(weight_NK, scale_NK, NF3_L, plan)
        nearest = assign_nearest(weight_NK, scale_NK, NF3_L)
        ratios.append(
            error_of(weight_NK, scale_NK, fed, hessian_KK) / error_of(weight_NK, scale_NK, nearest, hessian_KK)
        )

    assert sum(ratios) / len(ratios) < 0.75
    assert max(ratios) < 1.0


def test_fewer_tokens_than_inputs_are_handled_by_damping() -> None:
    weight_NK, scale_NK, _ = make_problem(6, 64)
    hessian_KK = make_hessian(64, tokens=10)

    codes_NK = assign_feedback(weight_NK, scale_NK, NF3_L, plan_feedback(hessian_KK, dtype=torch.float64))

    nearest_NK = assign_nearest(weight_NK, scale_NK, NF3_L)
    assert error_of(weight_NK, scale_NK, codes_NK, hessian_KK) < error_of(weight_NK, scale_NK, nearest_NK, hessian_KK)


def test_a_singular_hessian_without_damping_is_refused_with_the_remedy() -> None:
    with pytest.raises(WeightError, match=r"singular at damping=0; raise it \(0.01 is usual\)"):
        plan_feedback(torch.ones(8, 8), damping=0.0)


def test_an_indefinite_matrix_is_refused() -> None:
    with pytest.raises(WeightError, match=r"singular at damping=0\.01"):
        plan_feedback(torch.tensor([[1.0, 3.0], [3.0, 1.0]]))


def test_scales_of_zero_leave_finite_targets_and_the_columns_beside_them_as_they_were() -> None:
    weight_NK, scale_NK, _ = make_problem(6, 40)
    scale_NK[:, 5] = 0.0
    plan = plan_feedback(torch.eye(40, dtype=torch.float64), dtype=torch.float64)

    codes_NK = assign_feedback(weight_NK, scale_NK, NF3_L, plan)

    others = [k for k in range(40) if k != 5]
    assert torch.equal(codes_NK[:, others], assign_nearest(weight_NK, scale_NK, NF3_L)[:, others])


def test_rows_do_not_depend_on_each_other_and_reruns_are_equal() -> None:
    weight_NK, scale_NK, hessian_KK = make_problem(12, 150)
    plan = plan_feedback(hessian_KK, dtype=torch.float64)

    codes_NK = assign_feedback(weight_NK, scale_NK, NF3_L, plan)

    assert torch.equal(codes_NK, assign_feedback(weight_NK, scale_NK, NF3_L, plan))
    assert torch.equal(codes_NK[3:5], assign_feedback(weight_NK[3:5], scale_NK[3:5], NF3_L, plan))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_assigned_as_their_float32_values(dtype: torch.dtype) -> None:
    weight_NK, scale_NK, hessian_KK = (tensor.float() for tensor in make_problem(8, 60))
    plan = plan_feedback(hessian_KK)
    half_NK = weight_NK.to(dtype)

    codes_NK = assign_feedback(half_NK, scale_NK, NF3_L.float(), plan)

    assert codes_NK.dtype == torch.uint8
    assert torch.equal(codes_NK, assign_feedback(half_NK.float(), scale_NK, NF3_L.float(), plan))
