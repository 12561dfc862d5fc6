"""The closed-form gradient is the derivative, whatever the tiles and threads."""

import pytest
import torch
from torch import Tensor

from lords_bench.quant import named_codebook
from lords_bench.reference import scale_gradient
from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.scale_gradient import ScaleGradient
from lords_bench.reference.workers import PanelWorkers

N, K, R = 50, 70, 3


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(weight, b, a, levels) in float64, S of both signs."""
    generator = torch.Generator().manual_seed(3)
    weight, b, a = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((N, K), (N, R), (R, K)))
    return weight, b, a, levels_tensor(named_codebook("nf3"), dtype=torch.float64)


def make_gradient(weight: Tensor, b: Tensor, a: Tensor, levels: Tensor, **weights: Tensor) -> ScaleGradient:
    rows = weights.get("rows", torch.ones(len(weight), dtype=weight.dtype))
    columns = weights.get("columns", torch.ones(weight.shape[1], dtype=weight.dtype))
    return ScaleGradient(
        weight, b, a, levels, row_weight_N=rows, column_weight_K=columns, workers=PanelWorkers(weight.device)
    )


def derivative(weight: Tensor, b: Tensor, a: Tensor, levels: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """By autograd, codes constant; a code is the nearest of the levels, found by looking at all of them."""
    b, a = b.clone().requires_grad_(), a.clone().requires_grad_()
    scale = b @ a
    codes = (weight.unsqueeze(2) - scale.detach().unsqueeze(2) * levels).abs().argmin(dim=2)
    (importance * (weight - scale * levels[codes]).square()).sum().backward()
    assert b.grad is not None
    assert a.grad is not None
    return b.grad, a.grad


def test_it_is_the_derivative_of_the_squared_error_with_the_codes_held() -> None:
    weight, b, a, levels = problem()
    gradient = make_gradient(weight, b, a, levels)

    gradient()

    b_expected, a_expected = derivative(weight, b, a, levels, torch.ones(N, K, dtype=torch.float64))
    factor = 2 / (scale_gradient.CELLS / 2) ** 2
    # Codes within half a cell of a threshold may differ; their share of the gradient is what is allowed here.
    torch.testing.assert_close(gradient.b_grad_NR * factor, b_expected, rtol=2e-2, atol=0.1)
    torch.testing.assert_close(gradient.a_grad_RK * factor, a_expected, rtol=2e-2, atol=0.1)


def test_a_vectors_own_weight_is_left_out_and_the_others_count() -> None:
    weight, b, a, levels = problem()
    rows, columns = torch.rand(N, dtype=torch.float64) + 0.5, torch.rand(K, dtype=torch.float64) + 0.5
    gradient = make_gradient(weight, b, a, levels, rows=rows, columns=columns)

    gradient()

    b_expected, a_expected = derivative(weight, b, a, levels, rows.unsqueeze(1) * columns)
    factor = 2 / (scale_gradient.CELLS / 2) ** 2
    torch.testing.assert_close(gradient.b_grad_NR * rows.unsqueeze(1) * factor, b_expected, rtol=2e-2, atol=0.1)
    torch.testing.assert_close(gradient.a_grad_RK * columns * factor, a_expected, rtol=2e-2, atol=0.1)


def test_tiles_tasks_and_threads_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, b, a, levels = problem()
    whole = make_gradient(weight, b, a, levels)
    whole()
    monkeypatch.setattr(scale_gradient, "TILE_ELEMENTS", 100)
    monkeypatch.setattr(scale_gradient, "TILE_COLUMNS", 32)
    monkeypatch.setattr(scale_gradient, "TASK_ELEMENTS", 500)

    with PanelWorkers(weight.device) as workers:
        parts = ScaleGradient(
            weight,
            b,
            a,
            levels,
            row_weight_N=torch.ones(N, dtype=torch.float64),
            column_weight_K=torch.ones(K, dtype=torch.float64),
            workers=workers,
        )
        parts()
        parts()

    torch.testing.assert_close(parts.b_grad_NR, whole.b_grad_NR)
    torch.testing.assert_close(parts.a_grad_RK, whole.a_grad_RK)


def test_a_zero_scale_and_a_zero_weight_give_a_finite_gradient() -> None:
    weight, b, a, levels = problem()
    b[0] = 0.0
    weight[:, 0] = 0.0
    gradient = make_gradient(weight, b, a, levels)

    gradient()

    assert torch.isfinite(gradient.b_grad_NR).all()
    assert torch.isfinite(gradient.a_grad_RK).all()


def test_learned_levels_lower_the_error_and_stay_sorted_within_one() -> None:
    weight, b, a, levels = problem()
    gradient = make_gradient(weight, b.abs() + 0.5, a.abs() + 0.5, levels)

    def error() -> float:
        scale = gradient.b_NR @ gradient.a_RK
        distance = (weight.unsqueeze(2) - scale.unsqueeze(2) * gradient.levels_L).abs().amin(dim=2)
        return float(distance.square().sum())

    before = error()
    gradient.learn_levels()

    assert error() < before
    assert gradient.levels_L.abs().max() == 1.0
    assert (gradient.levels_L.diff() >= 0).all()
