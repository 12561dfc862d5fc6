"""Both forms of the scale-tile GEMM are right for every format and ragged shapes, and agree with each other."""

import pytest
import torch
from bounds import assert_within, error_bound
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, dtype_for, make_problem, make_x, problems

from lords_bench.errors import UsageError
from lords_bench.kernels.scale_tile_gemm import launch
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig


def check(
    problem: Problem, decoder: str, x_MK: torch.Tensor, *, config: ScaleTileGemmConfig,
    bias_N: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The kernel's y against float64; the output starts as NaN."""
    y_MN = torch.full((x_MK.shape[0], problem.n), float("nan"), dtype=x_MK.dtype)

    launch.launch(x_MK, problem.operands(x_MK.dtype, decoder), bias_N=bias_N, config=config, out=y_MN)

    expected = x_MK.double() @ problem.weight_NK.t()
    if bias_N is not None:
        expected += bias_N.double()
    bound = error_bound(
        expected, problem.magnitudes(x_MK), steps=problem.k, rank=problem.rank,
        roundings=3 if decoder in ("table", "table16") else 2, compute=x_MK.dtype, result=x_MK.dtype,
    )  # fmt: skip
    assert_within(y_MN, expected, bound)
    return y_MN


@given(data=st.data())
def test_product_is_right_for_every_format_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(problems(decoders=("grid7", "table16", "uniform", "table")))
    dtype = data.draw(dtype_for(decoder))
    x_MK = make_x(
        data.draw(st.integers(1, 130)), problem.k, dtype, outlier=data.draw(st.booleans()),
        layout=data.draw(st.sampled_from(("plain", "rows", "transposed"))),
    )  # fmt: skip
    bias_N = torch.randn(problem.n).to(dtype) if data.draw(st.booleans()) else None
    config = ScaleTileGemmConfig(
        form=data.draw(st.sampled_from(("split", "joined"))), block_m=data.draw(st.sampled_from((16, 64))),
        block_n=64,
    )  # fmt: skip

    check(problem, decoder, x_MK, config=config, bias_N=bias_N)


@pytest.mark.parametrize("form", ["split", "joined"])
def test_a_non_finite_input_reaches_its_own_token_and_no_other(form: str) -> None:
    problem = make_problem(n=40, k=300, rank=5, bits=3)
    x_MK = make_x(20, 300, torch.bfloat16)
    x_MK[3, 17], x_MK[7, 299] = float("nan"), float("inf")

    y_MN = check(problem, "grid7", x_MK, config=ScaleTileGemmConfig(form=form, block_m=16))

    expected = x_MK.double() @ problem.weight_NK.t()
    torch.testing.assert_close(y_MN[[3, 7]].double(), expected[[3, 7]], equal_nan=True)


def test_tiles_that_would_decode_weights_twice_cannot_be_configured() -> None:
    with pytest.raises(UsageError, match="block_n 64 needs at least 16 rows per warp"):
        ScaleTileGemmConfig(block_n=64, num_warps=8)
