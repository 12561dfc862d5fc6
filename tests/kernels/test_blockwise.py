"""The block-wise baseline is right for every format, block size and ragged shapes, with and without zero points."""

import pytest
import torch
from block_problems import BlockProblem, block_problems
from bounds import assert_within
from hypothesis import given
from hypothesis import strategies as st
from problems import dtype_for, make_x

from lords_bench.errors import UsageError
from lords_bench.kernels.blockwise import launch
from lords_bench.kernels.blockwise.space import BlockwiseConfig
from lords_bench.kernels.common.block_operands import blockwise_operands


def check(problem: BlockProblem, decoder: str, x_MK: torch.Tensor, *, config: BlockwiseConfig) -> None:
    """The kernel's y, and the dequantized weight, against float64; both outputs start as NaN."""
    operands = problem.operands(x_MK.dtype, decoder)
    y_MN = torch.full((x_MK.shape[0], problem.n), float("nan"), dtype=x_MK.dtype)
    w_NK = torch.full((problem.n, problem.k), float("nan"))

    launch.launch(x_MK, operands, config=config, out=y_MN)
    launch.dequantize(operands, torch.float32, out=w_NK)

    rounded = decoder in ("table", "table16") or problem.zero_NG is not None
    level_error = torch.finfo(x_MK.dtype).eps if rounded else 2.0**-22
    assert_within(w_NK, problem.weight_NK, level_error * problem.magnitude_NK + 1e-12)
    expected = x_MK.double() @ problem.weight_NK.t()
    assert_within(y_MN, expected, problem.bound(expected, x_MK, decoder, weight_roundings=0))


@given(data=st.data())
def test_product_is_right_for_every_format_block_and_ragged_shape(data: st.DataObject) -> None:
    problem, decoder = data.draw(block_problems())
    dtype = data.draw(dtype_for(decoder))
    x_MK = make_x(data.draw(st.integers(1, 40)), problem.k, dtype, outlier=data.draw(st.booleans()))
    config = BlockwiseConfig(
        block_n=data.draw(st.sampled_from((16, 64))), blocks_k=data.draw(st.sampled_from((1, 2))),
        tiles_per_program=data.draw(st.sampled_from((1, 3))), last_sums=data.draw(st.booleans()),
    )  # fmt: skip

    check(problem, decoder, x_MK, config=config)


def test_a_block_that_fits_no_tile_is_refused() -> None:
    packed = torch.zeros(2, 1, 2, 16, dtype=torch.int16)

    with pytest.raises(UsageError, match="block 48 neither divides 128"):
        blockwise_operands(
            packed, torch.ones(2, 2), torch.linspace(-1, 1, 16), k=96, bits=4, block=48, dtype=torch.bfloat16
        )


@pytest.mark.parametrize(
    ("scale_NG", "k", "message"),
    [
        (torch.ones(2, 3), 96, r"scales \(2, 3\) do not fit; expected \(2, 2\) for block 64"),
        (torch.ones(2, 2).double(), 96, "scales are torch.float64; convert them to float16"),
        (torch.ones(2, 5), 300, "1 packed K blocks do not fit K = 300 at 4 bits; expected 3"),
    ],
)
def test_scales_and_codes_that_do_not_fit_are_refused(scale_NG: torch.Tensor, k: int, message: str) -> None:
    packed = torch.zeros(2, 1, 2, 16, dtype=torch.int16)

    with pytest.raises(UsageError, match=message):
        blockwise_operands(packed, scale_NG, torch.linspace(-1, 1, 16), k=k, bits=4, block=64, dtype=torch.bfloat16)
