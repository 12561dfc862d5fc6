"""Fake quantization picks the nearest level, marks what is inside the range, and keeps NaN where it stands."""

import pytest
import torch
from bounds import Magnitudes, assert_within, error_bound
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, Problem, make_problem, problems

from lords_bench.errors import UsageError
from lords_bench.kernels.fake_quantize import launch
from lords_bench.kernels.fake_quantize.space import FakeQuantizeConfig
from lords_bench.reference.codebooks import assign_nearest


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

    scale, levels, weight = problem.b_NR.double() @ problem.a_RK.double(), problem.levels_L.double(), weight_NK.double()
    size = problem.b_NR.double().abs() @ problem.a_RK.double().abs()
    assert int(out.codes_NK.max()) < levels.numel(), "a code was not written"
    distance = (weight - scale * levels[out.codes_NK.long()]).abs()
    nearest = (weight[..., None] - scale[..., None] * levels).abs().amin(-1)
    # A code may differ from the nearest only where two levels are equally near to fp32 rounding.
    assert bool((distance <= nearest + 2.0**-20 * (size + weight.abs()) + 1e-37).all())
    expected = scale * levels[out.codes_NK.long()]
    bound = error_bound(
        expected, Magnitudes(terms=expected.abs(), factors=size, inputs=torch.zeros_like(size)), steps=1,
        rank=problem.rank, roundings=1, compute=torch.float32, result=weight_NK.dtype,
    )  # fmt: skip
    assert_within(out.weight_NK, expected, bound)
    quotient = weight / scale
    margin = 1e-5 * (1 + size / scale.abs())
    assert bool(out.inside_NK[(quotient > levels[0] + margin) & (quotient < levels[-1] - margin)].all())
    assert not bool(out.inside_NK[(quotient < levels[0] - margin) | (quotient > levels[-1] + margin)].any())
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
