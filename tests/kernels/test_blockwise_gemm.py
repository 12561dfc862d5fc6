"""Both forms of the block-wise GEMM are right for every format, block size and ragged shapes, up to many tokens."""

import pytest
import torch
from block_problems import BlockProblem, block_problems, make_blocks
from bounds import assert_within
from hypothesis import given
from hypothesis import strategies as st
from problems import dtype_for, make_x

from lords_bench.errors import UsageError
from lords_bench.kernel_check import expected_and_bound, make_case, prepared_for
from lords_bench.kernels.blockwise_gemm import launch
from lords_bench.kernels.blockwise_gemm.space import BlockwiseGemmConfig, default_config, space
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.scale_tile_gemm import space as scale_tile_gemm
from lords_bench.products.block_matmul import block_matmul
from lords_bench.products.registry import KERNELS


def check(
    problem: BlockProblem, decoder: str, x_MK: torch.Tensor, *, config: BlockwiseGemmConfig,
    bias_N: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The kernel's y against float64, twice with the same bits; the outputs start as NaN."""
    operands = problem.operands(x_MK.dtype, decoder)
    y_MN, again_MN = (torch.full((x_MK.shape[0], problem.n), float("nan"), dtype=x_MK.dtype) for _ in range(2))

    launch.launch(x_MK, operands, bias_N=bias_N, config=config, out=y_MN)

    expected = x_MK.double() @ problem.weight_NK.t()
    if bias_N is not None:
        expected += bias_N.double()
    # The scale, and its product with the level; with a zero point, the difference of level and zero point as well.
    weight_roundings = 2 + (problem.zero_NG is not None)
    assert_within(y_MN, expected, problem.bound(expected, x_MK, decoder, weight_roundings=weight_roundings))
    launch.launch(x_MK, operands, bias_N=bias_N, config=config, out=again_MN)
    assert torch.equal(y_MN.nan_to_num(nan=7.5), again_MN.nan_to_num(nan=7.5))
    return y_MN


@given(data=st.data())
def test_product_is_right_for_every_format_block_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(block_problems())
    dtype = data.draw(dtype_for(decoder))
    x_MK = make_x(
        data.draw(st.integers(1, 130)), problem.k, dtype, outlier=data.draw(st.booleans()),
        layout=data.draw(st.sampled_from(("plain", "rows", "transposed"))),
    )  # fmt: skip
    bias_N = torch.randn(problem.n).to(dtype) if data.draw(st.booleans()) else None
    config = BlockwiseGemmConfig(
        form=data.draw(st.sampled_from(("split", "joined"))), block_m=data.draw(st.sampled_from((16, 64))), block_n=64
    )

    check(problem, decoder, x_MK, config=config, bias_N=bias_N)


@pytest.mark.parametrize("form", ["split", "joined"])
@pytest.mark.parametrize("has_zero", [False, True])
def test_a_non_finite_input_reaches_its_own_token_and_no_other(form: str, has_zero: bool) -> None:
    problem = make_blocks(n=40, k=300, bits=3, block=64, has_zero=has_zero)
    x_MK = make_x(20, 300, torch.bfloat16)
    x_MK[3, 17], x_MK[7, 299] = float("nan"), float("inf")

    y_MN = check(problem, "grid7", x_MK, config=BlockwiseGemmConfig(form=form, block_m=16))

    expected = x_MK.double() @ problem.weight_NK.t()
    torch.testing.assert_close(y_MN[[3, 7]].double(), expected[[3, 7]], equal_nan=True)


def test_a_product_of_any_batch_shape_is_that_of_its_rows() -> None:
    case = make_case(40, 24, 140, bits=4, rank=8, dtype=torch.float32, device=torch.device("cpu"))
    weight = prepared_for(KERNELS["blockwise_gemm"], case, "table")
    x = case.x_MK.view(4, 10, 140).transpose(0, 1)

    y = block_matmul(x, weight, case.bias_N)

    assert torch.equal(y, block_matmul(case.x_MK, weight, case.bias_N).view(4, 10, 24).transpose(0, 1))
    expected_MN, bound_MN = expected_and_bound("blockwise_gemm", case, weight)
    assert_within(y.transpose(0, 1).reshape(40, 24), expected_MN, bound_MN)


def test_integer_zero_points_of_integer_levels_cost_no_rounding() -> None:
    """Levels and zero points are multiples of 1/8, so a scale that is a power of two gives every weight exactly."""
    generator = torch.Generator().manual_seed(0)
    zeros = torch.randint(0, 16, (40, 4), generator=generator) / 8 - 1
    problem = BlockProblem(
        codes_NK=torch.randint(0, 16, (40, 256), generator=generator, dtype=torch.uint8),
        levels_L=torch.arange(-8, 8) / 8, scale_NG=torch.full((40, 4), 0.25).half(), zero_NG=zeros, bits=4, block=64,
    )  # fmt: skip

    y_MN = launch.launch(torch.eye(256).bfloat16(), problem.operands(torch.bfloat16, "uniform"))

    assert torch.equal(y_MN.double(), problem.weight_NK.t())


def test_tiles_that_would_decode_weights_twice_cannot_be_configured() -> None:
    with pytest.raises(UsageError, match="block_n 64 needs at least 16 rows per warp"):
        BlockwiseGemmConfig(block_n=64, num_warps=8)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_tiles_and_their_rule_are_those_of_the_lords_gemm(arch: str) -> None:
    def tile(config: object) -> list[object]:
        return [getattr(config, name) for name in ("form", "block_m", "block_n", "num_warps", "num_stages")]

    gpu = Gpu(arch=arch, sm_count=100)

    assert tile(default_config(128, decoder="grid7", gpu=gpu)) == tile(scale_tile_gemm.default_config(128, gpu=gpu))
    assert {tuple(tile(config)) for config in space()} == {tuple(tile(config)) for config in scale_tile_gemm.space()}
