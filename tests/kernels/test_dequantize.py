"""The dequantize kernel gives W to one rounding, for every format."""

import torch
from bounds import Magnitudes, assert_within, error_bound
from hypothesis import given
from hypothesis import strategies as st
from problems import DTYPES, Problem, make_problem, problems

from lords_bench.kernels.dequantize.launch import dequantize
from lords_bench.kernels.dequantize.space import DequantizeConfig, space
from lords_bench.reference.error_bounds import unit_roundoff


def check(
    problem: Problem, decoder: str, *, compute: torch.dtype, result: torch.dtype, config: DequantizeConfig
) -> None:
    """The kernel's W against float64; the output starts as NaN."""
    out = torch.full((problem.n, problem.k), float("nan"), dtype=result)

    dequantize(problem.operands(compute, decoder), result, config=config, out=out)

    expected = problem.weight_NK
    factors = problem.values_NK.abs() * (problem.b_NR.double().abs() @ problem.a_RK.double().abs())
    exact_levels = decoder in ("grid7", "uniform")
    level_error = 0.0 if exact_levels else unit_roundoff(compute)
    terms = expected.abs() * (1 + level_error / unit_roundoff(torch.float32))
    magnitudes = Magnitudes(terms=terms, factors=factors, inputs=torch.ones_like(terms) * 1e-3)
    bound = error_bound(
        expected, magnitudes, steps=1, rank=problem.rank, roundings=3, compute=torch.float32, result=result
    )
    assert_within(out, expected, bound)


@given(data=st.data())
def test_weight_is_right_for_every_format_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(problems(decoders=("grid7", "table16", "uniform", "table")))
    compute = data.draw(st.sampled_from(DTYPES if decoder == "table" else DTYPES[:2]))
    result = data.draw(st.sampled_from(DTYPES))
    config = data.draw(st.sampled_from(space()))

    check(problem, decoder, compute=compute, result=result, config=config)


def test_float32_factors_are_not_rounded_to_tf32() -> None:
    problem = make_problem(n=33, k=140, rank=7, bits=4, scale_dtype=torch.float32)

    check(problem, "table", compute=torch.float32, result=torch.float32, config=DequantizeConfig(block_n=16))


def test_empty_weight_gives_an_empty_result() -> None:
    problem = make_problem(n=0, k=128, rank=4, bits=4)

    assert dequantize(problem.operands(torch.bfloat16, "grid7"), torch.bfloat16).shape == (0, 128)
