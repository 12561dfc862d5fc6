"""Offsets are 64-bit: packed rows, weights and dense results beyond 2^31 elements are read and written where they are.

The last program alone is interpreted, over tensors of which only the last rows are ever touched, so that gigabytes of
address space cost pages of memory.
"""

from typing import Any

import pytest
import torch
from problems import Problem, make_problem, make_x
from triton.runtime import interpreter

from lords_bench.kernels.blockwise import launch as blockwise
from lords_bench.kernels.blockwise.space import BlockwiseConfig
from lords_bench.kernels.blockwise_gemm import launch as blockwise_gemm
from lords_bench.kernels.blockwise_gemm.space import BlockwiseGemmConfig
from lords_bench.kernels.common.block_operands import BlockwiseOperands
from lords_bench.kernels.common.operands import LordsOperands
from lords_bench.kernels.dequantize import launch as dequantize
from lords_bench.kernels.fake_quantize import launch as fake_quantize
from lords_bench.kernels.peft_backward import launch as peft_backward
from lords_bench.kernels.peft_backward.kernel import factor_gradients_kernel, input_gradient_kernel
from lords_bench.kernels.peft_backward.space import InputGradientConfig
from lords_bench.kernels.rank_expanded import launch as rank_expanded
from lords_bench.kernels.rank_expanded.space import RankExpandedConfig
from lords_bench.kernels.scale_tile import launch as scale_tile
from lords_bench.kernels.scale_tile.space import ScaleTileConfig
from lords_bench.kernels.scale_tile_gemm import launch as scale_tile_gemm
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig

ROWS = 2**26 + 3
TOUCHED = 64
K = 33
# Rows of the last program of every kernel.
LAST = ROWS % 64


@pytest.fixture
def last_program_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches run their last program only, on the tensors themselves instead of copies."""
    builder, executor = interpreter.interpreter_builder, interpreter.GridExecutor
    plain_call, set_index, set_size = executor.__call__, builder.set_grid_idx, builder.set_grid_dim

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        grid = (*self.grid, 1, 1)[:3]
        self.grid = (1, 1, 1)
        monkeypatch.setattr(builder, "set_grid_idx", lambda *_: set_index(*(size - 1 for size in grid)), raising=False)
        monkeypatch.setattr(builder, "set_grid_dim", lambda *_: set_size(*grid), raising=False)
        return plain_call(self, *args, **kwargs)

    monkeypatch.setattr(executor, "__call__", call)
    monkeypatch.setattr(executor, "_init_args_hst", lambda _self, args, kwargs: (args, kwargs))
    monkeypatch.setattr(executor, "_restore_args_dev", lambda *_: None)


@pytest.fixture
def huge() -> tuple[LordsOperands, Problem]:
    """Operands of a weight of 2^26 rows and 33 inputs (a K block once packed), and the problem of its last rows."""
    small = make_problem(n=TOUCHED, k=K, rank=16, bits=4)
    operands = small.operands(torch.bfloat16, "grid7")
    packed, b_NR = last_rows(operands.packed), last_rows(operands.b_NR)
    assert packed.numel() > 2**31
    assert ROWS * K > 2**31
    whole = LordsOperands(
        packed=packed, b_NR=b_NR, a_RK=operands.a_RK, levels=operands.levels, n=ROWS, k=K, bits=4, rank=16
    )
    return whole, small


def last_rows(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of `ROWS` rows that ends in these."""
    huge = torch.empty(ROWS, *tensor.shape[1:], dtype=tensor.dtype)
    huge[-len(tensor) :] = tensor
    return huge


def last_column() -> torch.Tensor:
    """One token that picks the last input."""
    x_MK = torch.zeros(1, K, dtype=torch.bfloat16)
    x_MK[0, -1] = 1
    return x_MK


@pytest.mark.usefixtures("last_program_only")
@pytest.mark.parametrize("kernel", ["dequantize", "scale_tile", "scale_tile_gemm", "rank_expanded"])
def test_rows_beyond_2_to_the_31_elements_are_read(kernel: str, huge: tuple[LordsOperands, Problem]) -> None:
    operands, small = huge
    x_MK = last_column()

    if kernel == "dequantize":
        found = dequantize.dequantize(operands, torch.bfloat16)[-LAST:, -1]
    elif kernel == "scale_tile":
        config = ScaleTileConfig(tiles_per_program=1)
        found = scale_tile.launch(x_MK, operands, config=config)[0, -LAST:]
    elif kernel == "scale_tile_gemm":
        gemm_config = ScaleTileGemmConfig(block_m=16, block_n=64)
        found = scale_tile_gemm.launch(x_MK, operands, config=gemm_config)[0, -LAST:]
    else:
        decode_config = RankExpandedConfig(tiles_per_program=1)
        found = rank_expanded.launch(x_MK, rank_expanded.prepare(operands), config=decode_config)[0, -LAST:]

    torch.testing.assert_close(found.double(), small.weight_NK[-LAST:, -1], rtol=2e-2, atol=1e-6)


@pytest.mark.usefixtures("last_program_only")
@pytest.mark.parametrize("kernel", ["dequantize", "blockwise", "blockwise_gemm"])
def test_block_wise_rows_beyond_2_to_the_31_elements_are_read(kernel: str, huge: tuple[LordsOperands, Problem]) -> None:
    operands, small = huge
    scale_NG = torch.rand(TOUCHED, 2, generator=torch.Generator().manual_seed(0)).half()
    weight = BlockwiseOperands(
        packed=operands.packed, scale_NG=last_rows(scale_NG), zero_NG=None, shifts=torch.tensor((0, 16)).int(),
        levels=operands.levels, n=ROWS, k=K, bits=4, block=64,
    )  # fmt: skip

    if kernel == "dequantize":
        found = blockwise.dequantize(weight, torch.bfloat16)[-LAST:, -1]
    elif kernel == "blockwise":
        found = blockwise.launch(last_column(), weight, config=BlockwiseConfig(tiles_per_program=1))[0, -LAST:]
    else:
        gemm_config = BlockwiseGemmConfig(block_m=16, block_n=64)
        found = blockwise_gemm.launch(last_column(), weight, config=gemm_config)[0, -LAST:]

    expected = (small.values_NK * scale_NG.double()[:, :1])[-LAST:, -1]
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=1e-6)


@pytest.mark.usefixtures("last_program_only")
def test_fake_quantization_reads_and_writes_weights_beyond_2_to_the_31_elements() -> None:
    small = make_problem(n=TOUCHED, k=K, rank=1, bits=4)
    weight_NK = small.weight_NK.bfloat16()

    found = fake_quantize.launch(last_rows(weight_NK), last_rows(small.b_NR), small.a_RK, small.levels_L)

    expected = fake_quantize.launch(weight_NK[-LAST:], small.b_NR[-LAST:], small.a_RK, small.levels_L)
    assert torch.equal(found.weight_NK[-LAST:], expected.weight_NK)
    assert torch.equal(found.flagged_codes_NK[-LAST:], expected.flagged_codes_NK)


@pytest.mark.usefixtures("last_program_only")
@pytest.mark.parametrize("atomic", [False, True])
def test_factor_gradients_read_rows_beyond_2_to_the_31_elements(
    atomic: bool, huge: tuple[LordsOperands, Problem]
) -> None:
    """The kernel itself: its launch adds the partial results of all rows up, which would touch all of them."""
    operands, small = huge
    dy_MN = torch.empty(1, ROWS, dtype=torch.bfloat16)
    dy_MN[0, -LAST:] = torch.tensor([1.0, -2.0, 0.5])
    x_MK = make_x(1, K, torch.bfloat16)
    tiles, block_n = -(-ROWS // 64), 64
    da_parts, db_NR = torch.empty(1 if atomic else tiles, 16, K), torch.empty(ROWS, 16)
    da_parts[-1], db_NR[-LAST:] = 0, 0

    factor_gradients_kernel[(tiles, 1)](
        operands.packed, dy_MN, x_MK, operands.a_RK, operands.b_NR, da_parts, db_NR, operands.levels.words,
        1, ROWS, K, 1, ROWS, 1, K, 1,
        RANK=16, BLOCK_M=16, BLOCK_N=block_n, BITS=4, DECODER="grid7", LEVEL_UNIT=operands.levels.unit, EVEN_N=False,
        ATOMIC=atomic,
    )  # fmt: skip

    ds_NK = (dy_MN[:, -LAST:].double().t() @ x_MK.double()) * small.values_NK[-LAST:]
    db_expected, da_expected = ds_NK @ small.a_RK.double().t(), small.b_NR[-LAST:].double().t() @ ds_NK
    torch.testing.assert_close(db_NR[-LAST:].double(), db_expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(da_parts[-1].double(), da_expected, rtol=2e-2, atol=2e-2)


@pytest.mark.usefixtures("last_program_only")
def test_input_gradients_read_rows_beyond_2_to_the_31_elements() -> None:
    """Rows of few inputs that lie 2^26 words apart, as those of a wide weight do: the kernel goes over all rows."""
    small = make_problem(n=40, k=K, rank=16, bits=4)
    operands = small.operands(torch.bfloat16, "grid7")
    k_blocks = 2**26 // operands.packed[0].numel()
    packed = torch.empty(40, k_blocks, *operands.packed.shape[2:], dtype=torch.int16)
    packed[:, 0] = operands.packed[:, 0]
    assert packed[:-1].numel() > 2**31
    dy_MN, dx_MK = make_x(2, 40, torch.bfloat16), torch.full((2, K), float("nan"), dtype=torch.bfloat16)

    input_gradient_kernel[(1, 1)](
        packed, dy_MN, operands.a_RK, operands.b_NR, dx_MK, operands.levels.words, 2, 40, K, k_blocks, 40, 1, K,
        RANK=16, BLOCK_M=16, BLOCK_N=32, BITS=4, DECODER="grid7", LEVEL_UNIT=operands.levels.unit, EVEN_N=False,
    )  # fmt: skip

    assert torch.equal(dx_MK, peft_backward.input_gradient(dy_MN, operands, config=InputGradientConfig(block_n=32)))


def test_columns_further_than_2_to_the_31_elements_apart_are_brought_together() -> None:
    """A column's offset is a 32-bit product; a transposed gradient of so many elements is copied first."""
    far_MN = torch.empty_strided((2, 3), (1, 2**30), dtype=torch.bfloat16)
    near_MN = torch.empty_strided((2, 3), (1, 2**29), dtype=torch.bfloat16)
    far_MN.copy_(torch.arange(6.0).view(2, 3))

    assert torch.equal(peft_backward.with_near_columns(far_MN), torch.arange(6.0).view(2, 3).bfloat16())
    assert peft_backward.with_near_columns(far_MN).stride() == (3, 1)
    assert peft_backward.with_near_columns(near_MN) is near_MN
