"""Fake quantization picks the nearest level, marks what is inside the range, and keeps NaN where it stands."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, Problem, make_problem, problems

from lords_bench.errors import UsageError
from lords_bench.kernels.fake_quantize import launch
from lords_bench.kernels.fake_quantize.check import fake_quantize_errors
from lords_bench.kernels.fake_quantize.space import FakeQuantizeConfig
from lords_bench.reference.codebooks import assign_nearest
from lords_bench.reference.qat import CODE_MASK, INSIDE, Grid, fake_quantize
from lords_bench.training import ops


def weights_near(problem: Problem, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Weights around the problem's own, so that all levels and both ends occur."""
    noise = torch.randn(problem.n, problem.k, generator=torch.Generator().manual_seed(seed)) * 0.3
    return (problem.weight_NK * (1 + noise)).to(dtype)


def check(problem: Problem, weight_NK: torch.Tensor, config: FakeQuantizeConfig) -> launch.FakeQuantized:
    """Codes that are as near as the nearest, Ŵ to its rounding; outputs start as NaN and 255."""
    out = launch.FakeQuantized(
        weight_NK=torch.full_like(weight_NK, float("nan")).contiguous(),
        flagged_codes_NK=torch.full(weight_NK.shape, 255, dtype=torch.uint8),
    )

    launch.launch(weight_NK, problem.b_NR, problem.a_RK, problem.levels_L, config=config, out=out)

    errors = fake_quantize_errors(
        weight_NK, out.weight_NK, out.codes_NK, out.inside_NK, problem.levels_L, problem.b_NR, problem.a_RK
    )
    assert {name: float(share.nan_to_num(nan=torch.inf).max()) <= 1 for name, share in errors.items()} == {
        "code": True, "value": True, "mask": True,
    }  # fmt: skip
    return out


@given(data=st.data())
def test_codes_values_and_mask_are_right_for_every_format_and_ragged_shape(data: st.DataObject) -> None:
    problem, _ = data.draw(problems(decoders=("table",)))
    weight_NK = weights_near(problem, data.draw(st.sampled_from(DTYPES)))
    if data.draw(st.booleans()):
        wide = torch.zeros(problem.n, problem.k + 3, dtype=weight_NK.dtype)
        wide[:, : problem.k] = weight_NK
        weight_NK = wide[:, : problem.k]
    config = FakeQuantizeConfig(
        block_n=data.draw(st.sampled_from((16, 64))), block_k=data.draw(st.sampled_from((32, 128)))
    )

    check(problem, weight_NK, config)


def test_codes_are_those_of_the_reference() -> None:
    problem = make_problem(n=65, k=140, rank=3, bits=4, scale_dtype=torch.float32)
    weight_NK = weights_near(problem, torch.float32)

    found = launch.launch(weight_NK, problem.b_NR, problem.a_RK, problem.levels_L)

    expected = assign_nearest(weight_NK, problem.b_NR @ problem.a_RK, problem.levels_L)
    assert int((found.codes_NK != expected).sum()) <= 1


GRIDS = {
    "float32 master, stored as float16": (torch.float32, torch.float16, 4),
    "bfloat16 weight": (torch.bfloat16, torch.bfloat16, 3),
    "nothing rounded": (torch.float32, None, 2),
}


def trained_grid(problem: Problem, storage: torch.dtype | None) -> Grid:
    """The problem's factors as float32 masters that their storage dtype would round."""
    b_NR = (problem.b_NR.float() * 1.0001).requires_grad_()
    a_RK = (problem.a_RK.float() * 0.9999).requires_grad_()
    return Grid(first=b_NR, a_RK=a_RK, levels_L=problem.levels_L, scale_dtype=storage)


@pytest.mark.parametrize("name", GRIDS)
def test_training_by_the_kernel_has_the_codes_mask_and_gradients_of_the_reference(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype, storage, bits = GRIDS[name]
    problem = make_problem(n=33, k=70, rank=3, bits=bits)
    weight_NK, dw_NK = weights_near(problem, dtype), weights_near(problem, dtype, seed=1)
    found = []
    for forward in (fake_quantize, ops.fake_quantize_by_kernel):
        monkeypatch.setattr(ops, "fake_quantize", forward)
        grid, weight = trained_grid(problem, storage), weight_NK.clone().requires_grad_()
        fake_NK, flagged_NK = forward(weight, grid)
        grads = torch.autograd.grad(ops.fake_quantized(weight, grid), (weight, grid.first, grid.a_RK), dw_NK)
        found.append((fake_NK, flagged_NK, *grads))

    (expected_NK, flags_NK, *expected_grads), (fake_NK, flagged_NK, *grads) = found
    # Equal inputs and no tie among them: the two differ only in how the terms of S are summed.
    assert torch.equal(flagged_NK, flags_NK)
    assert bool((flags_NK >= INSIDE).any())
    assert bool((flags_NK < INSIDE).any())
    torch.testing.assert_close(fake_NK, expected_NK)
    for ours, expected in zip(grads, expected_grads, strict=True):
        assert torch.equal(ours, expected), "the backward reads the forward's byte per weight, and nothing else"


def test_a_tie_goes_to_the_lower_level_and_both_ends_lie_inside() -> None:
    levels_L = torch.tensor([-1.0, -0.5, 0.0, 1.0])
    quotients_K = torch.tensor([-1.0, -0.75, -0.25, 0.5, 1.0, 1.0 + 2.0**-23, -1.0 - 2.0**-23])
    # One positive and one negative power of two: S, 1/S and W · (1/S) are exact.
    b_NR = torch.tensor([[2.0], [-0.25]])
    grid = Grid(first=b_NR, a_RK=torch.ones(1, 7), levels_L=levels_L)

    for forward in (fake_quantize, ops.fake_quantize_by_kernel):
        _, flagged_NK = forward(b_NR * quotients_K, grid)

        assert (flagged_NK & CODE_MASK).tolist() == [[0, 0, 1, 2, 3, 3, 0]] * 2, forward
        assert (flagged_NK >= INSIDE).tolist() == [[True] * 5 + [False] * 2] * 2, forward


def test_the_kernel_takes_what_it_can_and_nothing_else() -> None:
    problem = make_problem(n=8, k=16, rank=2, bits=4)
    weight_NK, grid = torch.zeros(8, 16), trained_grid(problem, torch.float16)
    assert ops.kernel_takes(weight_NK, grid)

    assert ops.kernel_takes(weight_NK.bfloat16(), grid)
    assert not ops.kernel_takes(weight_NK.double(), grid)
    assert not ops.kernel_takes(torch.zeros(16, 8).t(), grid)
    assert not ops.kernel_takes(weight_NK, replace(grid, a_RK=None))
    assert not ops.kernel_takes(weight_NK, replace(grid, zero_NG=torch.zeros(8, 1)))
    assert not ops.kernel_takes(weight_NK, replace(grid, levels_L=torch.linspace(-1, 1, 17)))


def test_a_nan_weight_stays_nan_and_an_infinite_one_takes_an_end_level() -> None:
    problem = make_problem(n=20, k=40, rank=3, bits=4)
    weight_NK = weights_near(problem, torch.bfloat16)
    weight_NK[2, 5], weight_NK[3, 6] = float("nan"), float("inf")

    found = launch.launch(weight_NK, problem.b_NR, problem.a_RK, problem.levels_L)

    assert torch.isnan(found.weight_NK).nonzero().tolist() == [[2, 5]]
    assert int(found.codes_NK[3, 6]) in (0, 15)
    assert not bool(found.inside_NK[3, 6])


def test_a_weight_that_is_not_contiguous_along_k_is_refused() -> None:
    problem = make_problem(n=20, k=40, rank=3, bits=4)

    with pytest.raises(UsageError, match="its last dimension must be contiguous"):
        launch.launch(torch.zeros(40, 20).t(), problem.b_NR, problem.a_RK, problem.levels_L)


def test_factors_of_another_shape_are_refused() -> None:
    problem = make_problem(n=20, k=40, rank=3, bits=4)

    with pytest.raises(UsageError, match=r"do not fit a 21×40 weight"):
        launch.launch(torch.zeros(21, 40), problem.b_NR, problem.a_RK, problem.levels_L)
