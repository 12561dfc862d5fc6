"""Both forms of the scale-tile GEMM are right for every format and ragged shapes, and agree with each other."""

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from bounds import assert_within, error_bound
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, dtype_for, make_problem, make_x, problems

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.scale_tile_gemm import launch
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig, default_config


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


def test_float32_tokens_are_left_to_a_dense_product_on_a_gpu() -> None:
    operands = make_problem(n=4, k=16, rank=1, bits=4).operands(torch.float32, "table")

    found = launch.supports(replace(operands, packed=Mock(device=torch.device("cuda"))), torch.float32)

    assert found.reason == "float32 products have no tensor core to run on; use dequantize and a dense matmul"
    assert launch.supports(operands, torch.float32).ok


def test_a_hopper_gpu_gets_tiles_that_its_shared_memory_holds_at_three_bits() -> None:
    hopper = Gpu(arch="sm_90", sm_count=132)

    assert [default_config(512, bits=bits, gpu=hopper).block_m for bits in (4, 3, 2)] == [128, 64, 128]


def test_exact_levels_at_two_bits_take_three_stages_for_few_tokens_on_sm_80_only() -> None:
    stages = {
        (arch, decoder, bits, m): default_config(
            m, bits=bits, decoder=decoder, gpu=Gpu(arch=arch, sm_count=100)
        ).num_stages
        for arch in ("sm_80", "sm_86")
        for decoder in ("grid7", "table16")
        for bits in (4, 2)
        for m in (32, 64)
    }

    assert {key for key, count in stages.items() if count == 3} == {("sm_80", "table16", 2, 32)}
