"""The rank-expanded integer kernel is right for single tokens, every format and ragged shapes."""

from dataclasses import replace

import pytest
import torch
from bounds import assert_within, error_bound
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, Problem, make_problem, make_x, problems

from lords_bench.errors import UsageError
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.rank_expanded import launch
from lords_bench.kernels.rank_expanded.kernel import LARGEST_FIXED
from lords_bench.kernels.rank_expanded.space import MAX_CHUNK, MAX_RANK, RankExpandedConfig, space


def fixed_point_error(problem: Problem, x_MK: torch.Tensor, chunk: int) -> torch.Tensor:
    """Σ_r |B| Σ_chunks ½ step Σ_k |level|: rounding P = A∘x to steps of max|P|/32512 per rank and chunk."""
    x = torch.where(torch.isfinite(x_MK), x_MK, 0).double()
    error = torch.zeros(x.shape[0], problem.n, dtype=torch.float64)
    for first in range(0, problem.k, chunk):
        part = slice(first, first + chunk)
        p_MRK = x[:, None, part] * problem.a_RK.double()[None, :, part]
        half_step_MR = p_MRK.abs().amax(-1).clamp_min(1e-30) / LARGEST_FIXED.value * 0.5001
        error += (half_step_MR @ problem.b_NR.double().abs().t()) * problem.values_NK[:, part].abs().sum(1)
    return error


def check(
    problem: Problem, decoder: str, x_MK: torch.Tensor, *, config: RankExpandedConfig,
    bias_N: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The kernel's y against float64; the output starts as NaN."""
    y_MN = torch.full((x_MK.shape[0], problem.n), float("nan"), dtype=x_MK.dtype)
    compute = x_MK.dtype if decoder == "table" else torch.bfloat16

    launch.launch(x_MK, launch.prepare(problem.operands(compute, decoder)), bias_N=bias_N, config=config, out=y_MN)

    expected = x_MK.double() @ problem.weight_NK.t()
    if bias_N is not None:
        expected += bias_N.double()
    magnitudes = problem.magnitudes(x_MK)
    # Nothing is summed per weight here, so all fp32 errors are relative to the factors' magnitudes.
    magnitudes = replace(
        magnitudes, terms=magnitudes.factors,
        fixed_point=fixed_point_error(problem, x_MK, config.blocks_k * k_block(problem.bits)),
    )  # fmt: skip
    bound = error_bound(
        expected, magnitudes, steps=8 + problem.k // 128, rank=problem.rank, roundings=0, compute=torch.float32,
        result=x_MK.dtype,
    )  # fmt: skip
    assert_within(y_MN, expected, bound)
    return y_MN


@given(data=st.data())
def test_product_is_right_for_every_format_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(problems(decoders=("grid7", "uniform", "table"), max_rank=MAX_RANK))
    if decoder == "table":
        problem = replace(problem, levels_L=make_problem(n=1, k=1, rank=1, bits=problem.bits).levels_L)
    dtype = data.draw(st.sampled_from(DTYPES))
    x_MK = make_x(
        data.draw(st.sampled_from((1, 1, 2))), problem.k, dtype, outlier=data.draw(st.booleans()),
        layout=data.draw(st.sampled_from(("plain", "rows", "transposed"))),
    )  # fmt: skip
    bias_N = torch.randn(problem.n).to(dtype) if data.draw(st.booleans()) else None
    blocks = [b for b in (1, 2, 4) if b * k_block(problem.bits) <= MAX_CHUNK]
    config = RankExpandedConfig(
        block_n=data.draw(st.sampled_from((16, 64))), blocks_k=data.draw(st.sampled_from(blocks)),
        tiles_per_program=data.draw(st.sampled_from((1, 2, 3))), last_sums=data.draw(st.booleans()),
    )  # fmt: skip

    check(problem, decoder, x_MK, config=config, bias_N=bias_N)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_input_makes_its_own_token_nan_and_no_other(value: float) -> None:
    problem = make_problem(n=40, k=300, rank=5, bits=4)
    x_MK = make_x(3, 300, torch.bfloat16)
    x_MK[1, 17] = value

    y_MN = launch.launch(x_MK, launch.prepare(problem.operands(torch.bfloat16, "grid7")))

    assert bool(torch.isnan(y_MN[1]).all())
    assert bool(torch.isfinite(y_MN[[0, 2]]).all())


def test_largest_levels_and_inputs_do_not_overflow_the_integer_sums() -> None:
    problem = make_problem(n=16, k=512, rank=1, bits=2)
    problem = replace(
        problem, levels_L=torch.tensor([-63.0, -32.0, 0.0, 63.0]) / 63,
        codes_NK=torch.full((16, 512), 3, dtype=torch.uint8),
        a_RK=torch.ones(1, 512, dtype=torch.float16),
    )  # fmt: skip

    check(problem, "grid7", torch.full((1, 512), 7.0), config=RankExpandedConfig(blocks_k=4))


def test_an_input_of_zeros_gives_the_bias() -> None:
    problem = make_problem(n=20, k=130, rank=4, bits=4)
    bias_N = torch.randn(20).bfloat16()
    prepared = launch.prepare(problem.operands(torch.bfloat16, "grid7"))

    y_MN = launch.launch(torch.zeros(1, 130, dtype=torch.bfloat16), prepared, bias_N=bias_N)

    assert torch.equal(y_MN[0], bias_N)


def test_levels_off_the_grid_are_refused_with_the_kernel_to_use() -> None:
    problem = make_problem(n=4, k=16, rank=1, bits=4, levels="learned")
    prepared = launch.prepare(problem.operands(torch.bfloat16, "table"))

    with pytest.raises(UsageError, match="off the 7-bit grid, which the integer path needs; use scale_tile"):
        launch.launch(make_x(1, 16, torch.bfloat16), prepared)


def test_a_rank_that_would_spill_is_refused_with_the_kernel_to_use() -> None:
    problem = make_problem(n=4, k=16, rank=99, bits=4)
    prepared = launch.prepare(problem.operands(torch.bfloat16, "table"))

    with pytest.raises(UsageError, match="rank 128 is above 64, where registers run out; use scale_tile"):
        launch.launch(make_x(1, 16, torch.bfloat16), prepared)


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_no_configuration_exceeds_the_chunk_that_int32_sums_allow(bits: int) -> None:
    assert all(config.blocks_k * k_block(bits) <= MAX_CHUNK for config in space(bits=bits))
