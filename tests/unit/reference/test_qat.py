"""Fake quantization: Ŵ is what would be stored, and its gradients are those of the surrogate it names."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lords_bench.reference.codebooks import assign_nearest
from lords_bench.reference.qat import (
    CODE_MASK,
    INSIDE,
    Gradient,
    Grid,
    GridGradient,
    fake_quantize,
    fake_quantize_gradient,
)

N, K, BLOCK, RANK = 12, 40, 8, 3
GRADIENTS: tuple[Gradient, ...] = ("lsq", "constant-codes")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_rank_grid() -> Grid:
    """Scales of either sign, so that some weights lie far outside the range of the levels."""
    levels_L = torch.tensor([-1.0, -0.4, -0.1, 0.0, 0.2, 0.3, 0.7, 0.9], dtype=torch.float64)
    return Grid(first=normal(N, RANK, seed=1), a_RK=normal(RANK, K, seed=2), levels_L=levels_L)


def block_grid() -> Grid:
    return replace(low_rank_grid(), first=normal(N, K // BLOCK, seed=3), a_RK=None)


def affine_grid() -> Grid:
    zero_NG = normal(N, K // BLOCK, seed=4) * 3 + 3  # some beyond the codes, so that they are clamped
    return Grid(
        first=normal(N, K // BLOCK, seed=3) * 0.4,
        a_RK=None,
        levels_L=torch.arange(8, dtype=torch.float64),
        zero_NG=zero_NG,
    )


GRIDS: dict[str, Callable[[], Grid]] = {"low-rank": low_rank_grid, "block": block_grid, "affine": affine_grid}


def weight() -> Tensor:
    return normal(N, K, seed=5)


def expanded(grid: Grid) -> Tensor:
    return grid.first @ grid.a_RK if grid.a_RK is not None else grid.first.repeat_interleave(BLOCK, dim=1)


def surrogate(w_NK: Tensor, grid: Grid, gradient: Gradient, at_w_NK: Tensor, at: Grid) -> Tensor:
    """Ŵ near a point, codes, sides and rounded zero points being those at the point: written from the formulas."""
    flagged_NK = fake_quantize(at_w_NK, at)[1]
    codes_NK, inside_NK = (flagged_NK & CODE_MASK).long(), flagged_NK >= INSIDE
    scale_NK, at_scale_NK = expanded(grid), expanded(at)
    if grid.zero_NG is not None:
        rounded_NG = at.zero_NG.round().clamp(0, 7) + (grid.zero_NG - at.zero_NG)
        zero_NK = rounded_NG.repeat_interleave(BLOCK, dim=1)
        at_zero_NK = at.zero_NG.round().clamp(0, 7).repeat_interleave(BLOCK, dim=1)
        value_NK, at_value_NK = codes_NK - zero_NK, codes_NK - at_zero_NK
    else:
        value_NK = at_value_NK = grid.levels_L[codes_NK]
    if gradient == "constant-codes":
        return scale_NK * value_NK + w_NK - at_w_NK
    inner_NK = at_value_NK - at_w_NK / at_scale_NK
    return torch.where(inside_NK, w_NK + scale_NK * inner_NK, scale_NK * value_NK)


def gradients_at(w_NK: Tensor, grid: Grid, gradient: Gradient, grad_NK: Tensor) -> GridGradient:
    flagged_NK = fake_quantize(w_NK, grid)[1]
    learn = grid.zero_NG is None
    return fake_quantize_gradient(grad_NK, w_NK, flagged_NK, grid, gradient, learn_levels=learn)


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_are_the_finite_differences_of_the_surrogate(kind: str, gradient: Gradient) -> None:
    w_NK, grid, grad_NK = weight(), GRIDS[kind](), normal(N, K, seed=6)
    found = gradients_at(w_NK, grid, gradient, grad_NK)
    names = [name for name in ("first", "a_RK", "levels_L", "zero_NG") if getattr(found, name) is not None]
    step = 1e-4

    def loss(moved_w_NK: Tensor, moved: Grid) -> Tensor:
        return (surrogate(moved_w_NK, moved, gradient, w_NK, grid) * grad_NK).sum()

    direction = normal(N, K, seed=7)
    slope = (loss(w_NK + step * direction, grid) - loss(w_NK - step * direction, grid)) / (2 * step)
    assert torch.isclose((found.weight_NK * direction).sum(), slope, rtol=1e-7)
    for seed, name in enumerate(names, start=8):
        tensor = getattr(grid, name)
        direction = normal(*tensor.shape, seed=seed)
        above, below = (replace(grid, **{name: tensor + sign * step * direction}) for sign in (1, -1))
        slope = (loss(w_NK, above) - loss(w_NK, below)) / (2 * step)
        # the surrogate is at most quadratic in any one tensor, for which central differences are exact
        assert torch.isclose((getattr(found, name) * direction).sum(), slope, rtol=1e-7, atol=1e-7), name


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_surrogate_is_the_forward_at_the_point(kind: str, gradient: Gradient) -> None:
    w_NK, grid = weight(), GRIDS[kind]()

    fake_NK, _ = fake_quantize(w_NK, grid)

    assert torch.allclose(surrogate(w_NK, grid, gradient, w_NK, grid), fake_NK, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", GRIDS)
def test_the_examples_hold_weights_inside_and_outside_the_range(kind: str) -> None:
    """Else the tests above would leave one branch out."""
    inside_NK = fake_quantize(weight(), GRIDS[kind]())[1] >= INSIDE

    assert 0.2 < float(inside_NK.double().mean()) < 0.95


def test_a_weight_outside_the_range_gets_no_gradient_under_lsq_and_the_full_one_under_constant_codes() -> None:
    grid = Grid(
        first=torch.tensor([[0.5]]), a_RK=torch.tensor([[1.0, 1.0, -1.0]]), levels_L=torch.tensor([-1.0, 0.0, 1.0])
    )
    w_NK = torch.tensor([[0.4, 0.6, 0.6]])

    lsq = gradients_at(w_NK, grid, "lsq", torch.ones(1, 3))
    constant = gradients_at(w_NK, grid, "constant-codes", torch.ones(1, 3))

    # S = ½, ½, -½ and W/S = 0.8, 1.2, -1.2: levels 1, 1, -1, the last two outside
    assert lsq.weight_NK.tolist() == [[1.0, 0.0, 0.0]]
    assert torch.allclose(lsq.a_RK, 0.5 * torch.tensor([[1.0 - 0.8, 1.0, -1.0]]))
    assert constant.weight_NK.tolist() == [[1.0, 1.0, 1.0]]
    assert torch.allclose(constant.a_RK, 0.5 * torch.tensor([[1.0, 1.0, -1.0]]))


def test_codes_are_those_of_the_nearest_level() -> None:
    w_NK, grid = weight(), low_rank_grid()

    fake_NK, flagged_NK = fake_quantize(w_NK, grid)

    codes_NK = assign_nearest(w_NK, expanded(grid), grid.levels_L)
    assert torch.equal(flagged_NK & CODE_MASK, codes_NK)
    assert torch.allclose(fake_NK, grid.levels_L[codes_NK.long()] * expanded(grid), rtol=1e-12)


def test_a_scale_of_zero_gives_finite_weights_and_gradients() -> None:
    grid = replace(low_rank_grid(), first=torch.zeros(N, RANK, dtype=torch.float64))

    fake_NK, _ = fake_quantize(weight(), grid)
    found = gradients_at(weight(), grid, "lsq", normal(N, K, seed=6))

    assert torch.equal(fake_NK, torch.zeros_like(fake_NK))
    assert all(bool(torch.isfinite(t).all()) for t in (found.weight_NK, found.first, found.a_RK, found.levels_L))


def test_factors_are_rounded_to_their_storage_dtype_in_the_forward() -> None:
    grid = low_rank_grid()
    stored = replace(grid, first=grid.first.half().double(), a_RK=grid.a_RK.half().double())

    fake_NK, _ = fake_quantize(weight(), replace(grid, scale_dtype=torch.float16))

    assert torch.equal(fake_NK, fake_quantize(weight(), stored)[0])
    assert not torch.equal(fake_NK, fake_quantize(weight(), grid)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_results_keep_the_dtype_of_the_weight(dtype: torch.dtype) -> None:
    grid = low_rank_grid()

    fake_NK, flagged_NK = fake_quantize(weight().to(dtype), grid)

    assert fake_NK.dtype == dtype
    assert flagged_NK.dtype == torch.uint8


def test_panels_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    w_NK, grid, grad_NK = weight(), low_rank_grid(), normal(N, K, seed=6)
    whole = gradients_at(w_NK, grid, "lsq", grad_NK)

    monkeypatch.setattr("lords_bench.reference.panels.PANEL_ELEMENTS_CPU", 2 * K)
    panelled = gradients_at(w_NK, grid, "lsq", grad_NK)

    assert torch.allclose(whole.a_RK, panelled.a_RK, rtol=1e-12)
    assert torch.allclose(whole.first, panelled.first, rtol=1e-12)
