"""The scale-tile kernel is right for few tokens, every format and ragged shapes."""

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from bounds import assert_within, error_bound
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, dtype_for, make_problem, make_x, problems, with_zero_padding_of_rank

from lords_bench.errors import UsageError
from lords_bench.kernels.scale_tile import launch
from lords_bench.kernels.scale_tile.space import ScaleTileConfig, default_config


def check(
    problem: Problem, decoder: str, x_MK: torch.Tensor, *, config: ScaleTileConfig, bias_N: torch.Tensor | None = None
) -> torch.Tensor:
    """The kernel's y against float64; the output starts as NaN."""
    y_MN = torch.full((x_MK.shape[0], problem.n), float("nan"), dtype=x_MK.dtype)

    launch.launch(x_MK, problem.operands(x_MK.dtype, decoder), bias_N=bias_N, config=config, out=y_MN)

    expected = x_MK.double() @ problem.weight_NK.t()
    if bias_N is not None:
        expected += bias_N.double()
    roundings = 3 if decoder in ("table", "table16") else 2
    bound = error_bound(
        expected, problem.magnitudes(x_MK), steps=problem.k, rank=problem.rank, roundings=roundings,
        compute=torch.float16 if config.scale_in_fp16 else x_MK.dtype, result=x_MK.dtype,
    )  # fmt: skip
    assert_within(y_MN, expected, bound)
    return y_MN


@given(data=st.data())
def test_product_is_right_for_every_format_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(problems(decoders=("grid7", "table16", "uniform", "table")))
    dtype = data.draw(dtype_for(decoder))
    x_MK = make_x(
        data.draw(st.integers(1, 40)), problem.k, dtype, outlier=data.draw(st.booleans()),
        layout=data.draw(st.sampled_from(("plain", "rows", "transposed"))),
    )  # fmt: skip
    bias_N = torch.randn(problem.n).to(dtype) if data.draw(st.booleans()) else None
    config = ScaleTileConfig(
        block_n=data.draw(st.sampled_from((16, 64))), blocks_k=data.draw(st.sampled_from((1, 2, 4))),
        tiles_per_program=data.draw(st.sampled_from((1, 2, 3))), last_sums=data.draw(st.booleans()),
    )  # fmt: skip

    check(problem, decoder, x_MK, config=config, bias_N=bias_N)


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_input_reaches_its_own_token_and_no_other(value: float, bits: int) -> None:
    problem = make_problem(n=40, k=300, rank=5, bits=bits)
    x_MK = make_x(5, 300, torch.bfloat16)
    x_MK[3, 17] = value

    y_MN = check(problem, "grid7", x_MK, config=ScaleTileConfig())

    expected = x_MK.double() @ problem.weight_NK.t()
    torch.testing.assert_close(y_MN[3].double(), expected[3], equal_nan=True)


def test_padding_the_rank_with_zeros_changes_no_bit() -> None:
    problem = make_problem(n=40, k=200, rank=16, bits=4)
    x_MK = make_x(3, 200, torch.bfloat16)
    config = ScaleTileConfig(block_n=16)

    plain = launch.launch(x_MK, problem.operands(x_MK.dtype, "grid7"), config=config)
    padded = with_zero_padding_of_rank(problem, 10).operands(x_MK.dtype, "grid7")

    assert torch.equal(plain, launch.launch(x_MK, padded, config=config))


def test_counters_return_to_zero_so_that_a_rerun_gives_the_same_bits() -> None:
    problem = make_problem(n=70, k=520, rank=16, bits=4)
    operands = problem.operands(torch.bfloat16, "grid7")
    x_MK = make_x(4, 520, torch.bfloat16)
    config = ScaleTileConfig(block_n=16, tiles_per_program=2)
    arrivals = torch.zeros(16, dtype=torch.int32)

    first = launch.launch(x_MK, operands, config=config, arrivals=arrivals)
    second = launch.launch(x_MK, operands, config=config, arrivals=arrivals)

    assert torch.equal(first, second)
    assert arrivals.tolist() == [0] * 16


def test_fp16_scales_stay_within_the_bound() -> None:
    problem = make_problem(n=40, k=256, rank=16, bits=4)
    config = ScaleTileConfig(scale_in_fp16=True)

    check(problem, "grid7", make_x(3, 256, torch.float16), config=config)


def test_empty_batch_gives_an_empty_result() -> None:
    problem = make_problem(n=40, k=256, rank=16, bits=4)

    y_MN = launch.launch(make_x(0, 256, torch.bfloat16), problem.operands(torch.bfloat16, "grid7"))

    assert y_MN.shape == (0, 40)


def test_too_many_tokens_are_refused_with_the_kernel_to_use() -> None:
    problem = make_problem(n=4, k=16, rank=1, bits=4)

    with pytest.raises(UsageError, match="M = 65 is above 64; use scale_tile_gemm"):
        launch.launch(make_x(65, 16, torch.bfloat16), problem.operands(torch.bfloat16, "grid7"))


def test_float32_activations_need_the_portable_decoder() -> None:
    problem = make_problem(n=4, k=16, rank=1, bits=4)

    with pytest.raises(UsageError, match="has no float32 operands; use decoder 'table'"):
        launch.launch(make_x(1, 16, torch.float32), problem.operands(torch.bfloat16, "grid7"))


def test_more_than_sixteen_float32_tokens_are_left_to_a_dense_product_on_a_gpu() -> None:
    operands = make_problem(n=4, k=16, rank=1, bits=4).operands(torch.float32, "table")
    on_gpu = replace(operands, packed=Mock(device=torch.device("cuda")))

    assert launch.supports(17, on_gpu, torch.float32).reason == (
        "M = 17 is above 16 in float32; use dequantize and a dense matmul"
    )
    assert launch.supports(16, on_gpu, torch.float32).ok
    assert launch.supports(17, operands, torch.float32).ok


def test_fp16_scales_of_other_dtypes_are_refused() -> None:
    problem = make_problem(n=4, k=16, rank=1, bits=4)
    config = ScaleTileConfig(scale_in_fp16=True)

    with pytest.raises(UsageError, match=r"scale_in_fp16 needs float16 activations and factors, not torch.bfloat16"):
        launch.launch(make_x(1, 16, torch.bfloat16), problem.operands(torch.bfloat16, "grid7"), config=config)


@pytest.mark.parametrize(
    ("x_MK", "message"),
    [
        (torch.zeros(1, 17, dtype=torch.bfloat16), r"x has shape \(1, 17\); the weight takes \(tokens, 16\)"),
        (torch.zeros(16, dtype=torch.bfloat16), r"x has shape \(16,\)"),
        (torch.zeros(1, 16, dtype=torch.bfloat16, device="meta"), "x is on meta, the weight on cpu; move one of them"),
        (torch.zeros(1, 16, dtype=torch.float16), "the weight was prepared for torch.bfloat16; prepare it for"),
        (torch.zeros(1, 16, dtype=torch.int32), r"activations are torch.int32; use float16, bfloat16 or float32"),
    ],
)
def test_activations_that_do_not_fit_are_refused_in_one_line(x_MK: torch.Tensor, message: str) -> None:
    problem = make_problem(n=4, k=16, rank=1, bits=4)

    with pytest.raises(UsageError, match=message):
        launch.launch(x_MK, problem.operands(torch.bfloat16, "grid7"))


def test_default_config_gives_every_gpu_enough_programs() -> None:
    config = default_config(1, 4096, 4096, bits=4)

    assert 4096 // 64 // config.tiles_per_program * 16 >= 4 * 132 // 2
