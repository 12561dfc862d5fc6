"""The backward kernels give dA, dB and dX to their bounds, and the same bits on every run unless told to be atomic."""

from dataclasses import replace

import pytest
import torch
from bounds import assert_within
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, dtype_for, make_problem, make_x, problems

from lords_bench.errors import UsageError
from lords_bench.kernels.peft_backward import launch
from lords_bench.kernels.peft_backward.check import Factored, expected_factor_gradients, expected_input_gradient
from lords_bench.kernels.peft_backward.space import FactorGradientsConfig, InputGradientConfig


def factored(problem: Problem) -> Factored:
    """The problem's weight in float64."""
    return Factored(values_NK=problem.values_NK, b_NR=problem.b_NR.double(), a_RK=problem.a_RK.double())


def check_factors(
    problem: Problem, decoder: str, dy_MN: torch.Tensor, x_MK: torch.Tensor, config: FactorGradientsConfig
) -> launch.FactorGradients:
    """dA and dB against float64."""
    found = launch.factor_gradients(dy_MN, x_MK, problem.operands(x_MK.dtype, decoder), config=config)

    expected = expected_factor_gradients(dy_MN, x_MK, factored(problem), table=decoder in ("table", "table16"))
    for computed, wanted in zip((found.da_RK[: problem.rank], found.db_NR[:, : problem.rank]), expected, strict=True):
        assert_within(computed, wanted.value, wanted.bound)
    return found


def check_inputs(problem: Problem, decoder: str, dy_MN: torch.Tensor, config: InputGradientConfig) -> torch.Tensor:
    """dX against float64; the output starts as NaN."""
    dx_MK = torch.full((dy_MN.shape[0], problem.k), float("nan"), dtype=dy_MN.dtype)

    launch.input_gradient(dy_MN, problem.operands(dy_MN.dtype, decoder), config=config, out=dx_MK)

    expected = expected_input_gradient(dy_MN, factored(problem), table=decoder in ("table", "table16"))
    assert_within(dx_MK, expected.value, expected.bound)
    return dx_MK


@given(data=st.data())
def test_factor_gradients_are_right_for_every_format_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(problems(decoders=("grid7", "table16", "uniform", "table"), max_k=400))
    dtype = data.draw(dtype_for(decoder))
    m = data.draw(st.integers(1, 100))
    layout = data.draw(st.sampled_from(("plain", "rows", "transposed")))
    config = FactorGradientsConfig(
        block_m=data.draw(st.sampled_from((16, 64))), block_n=data.draw(st.sampled_from((32, 128))),
        atomic=data.draw(st.booleans()),
    )  # fmt: skip

    dy_MN = make_x(m, problem.n, dtype, layout=layout, seed=1)
    check_factors(problem, decoder, dy_MN, make_x(m, problem.k, dtype, outlier=data.draw(st.booleans())), config)


@given(data=st.data())
def test_input_gradients_are_right_for_every_format_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(problems(decoders=("grid7", "table16", "uniform", "table"), max_k=400))
    dy_MN = make_x(
        data.draw(st.integers(1, 100)), problem.n, data.draw(dtype_for(decoder)), outlier=data.draw(st.booleans()),
        layout=data.draw(st.sampled_from(("plain", "rows", "transposed"))),
    )  # fmt: skip

    check_inputs(problem, decoder, dy_MN, InputGradientConfig(block_m=32, block_n=data.draw(st.sampled_from((32, 64)))))


def test_an_input_gradient_at_the_edge_of_float16_may_overflow_only_within_its_bound() -> None:
    """A random example once met the one place where a right kernel is infinite and float64 is not."""
    problem = make_problem(n=40, k=140, rank=2, bits=4)
    problem = replace(problem, b_NR=problem.b_NR * 1000)
    dy_MN = make_x(1, 40, torch.float16)
    largest = expected_input_gradient(dy_MN, factored(problem), table=False).value.abs().max()
    sides = set()

    for step in range(40):
        scaled_MN = (dy_MN.double() * (65520 * (1 + (step - 20) / 20000) / largest)).to(torch.float16)
        expected = expected_input_gradient(scaled_MN, factored(problem), table=False).value.abs().max()
        dx_MK = check_inputs(problem, "grid7", scaled_MN, InputGradientConfig(block_m=16, block_n=64))
        sides.add((bool(dx_MK.isinf().any()), bool(expected > 65520)))

    assert {(True, False), (False, False), (True, True)} <= sides


def test_a_nan_input_reaches_its_own_column_of_da_and_all_of_db() -> None:
    problem = make_problem(n=40, k=300, rank=5, bits=4)
    x_MK, dy_MN = make_x(20, 300, torch.bfloat16), make_x(20, 40, torch.bfloat16, seed=1)
    x_MK[3, 17] = float("nan")

    found = launch.factor_gradients(dy_MN, x_MK, problem.operands(torch.bfloat16, "grid7"))

    is_nan = torch.isnan(found.da_RK)
    assert bool(is_nan[:, 17].all())
    assert int(is_nan.sum()) == is_nan.shape[0]
    assert bool(torch.isnan(found.db_NR).all())


def test_partial_buffers_give_the_same_bits_on_every_run() -> None:
    problem = make_problem(n=70, k=300, rank=16, bits=2)
    operands = problem.operands(torch.bfloat16, "grid7")
    x_MK, dy_MN = make_x(33, 300, torch.bfloat16), make_x(33, 70, torch.bfloat16, seed=1)

    first, second = (launch.factor_gradients(dy_MN, x_MK, operands) for _ in range(2))

    assert torch.equal(first.da_RK, second.da_RK)
    assert torch.equal(first.db_NR, second.db_NR)


def test_no_tokens_give_zero_gradients() -> None:
    problem = make_problem(n=20, k=130, rank=3, bits=4)
    operands = problem.operands(torch.bfloat16, "grid7")
    empty_K, empty_N = torch.zeros(0, 130, dtype=torch.bfloat16), torch.zeros(0, 20, dtype=torch.bfloat16)

    found = launch.factor_gradients(empty_N, empty_K, operands)

    assert not bool(found.da_RK.any())
    assert not bool(found.db_NR.any())
    assert launch.input_gradient(empty_N, operands).shape == (0, 130)


def test_gradients_of_another_dtype_are_refused() -> None:
    problem = make_problem(n=20, k=130, rank=3, bits=4)
    operands = problem.operands(torch.bfloat16, "grid7")

    with pytest.raises(UsageError, match=r"x is torch.bfloat16 and dy torch.float16; cast one of them"):
        launch.factor_gradients(make_x(2, 20, torch.float16), make_x(2, 130, torch.bfloat16), operands)
