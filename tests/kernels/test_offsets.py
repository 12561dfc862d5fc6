"""Offsets are 64-bit: packed rows beyond 2^31 elements are read where they are.

The last program alone is interpreted, over tensors of which only the last rows are ever touched, so that gigabytes of
address space cost pages of memory.
"""

from typing import Any

import pytest
import torch
from problems import make_problem
from triton.runtime import interpreter

from lords_bench.kernels.common.operands import LordsOperands
from lords_bench.kernels.dequantize import launch as dequantize
from lords_bench.kernels.rank_expanded import launch as rank_expanded
from lords_bench.kernels.rank_expanded.space import RankExpandedConfig
from lords_bench.kernels.scale_tile import launch as scale_tile
from lords_bench.kernels.scale_tile.space import ScaleTileConfig
from lords_bench.kernels.scale_tile_gemm import launch as scale_tile_gemm
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig

ROWS = 2**26 + 3
TOUCHED = 64


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
def huge() -> tuple[LordsOperands, torch.Tensor]:
    """Operands of a weight of 2^26 rows and one input (a whole K block once packed), and the last rows of W."""
    small = make_problem(n=TOUCHED, k=1, rank=16, bits=4)
    operands = small.operands(torch.bfloat16, "grid7")
    packed = torch.empty(ROWS, *operands.packed.shape[1:], dtype=torch.int16)
    b_NR = torch.empty(ROWS, 16, dtype=torch.float16)
    packed[-TOUCHED:], b_NR[-TOUCHED:] = operands.packed, operands.b_NR
    assert packed.numel() > 2**31
    whole = LordsOperands(
        packed=packed, b_NR=b_NR, a_RK=operands.a_RK, levels=operands.levels, n=ROWS, k=1, bits=4, rank=16
    )
    return whole, small.weight_NK


@pytest.mark.usefixtures("last_program_only")
@pytest.mark.parametrize("kernel", ["dequantize", "scale_tile", "scale_tile_gemm", "rank_expanded"])
def test_rows_beyond_2_to_the_31_elements_are_read(kernel: str, huge: tuple[LordsOperands, torch.Tensor]) -> None:
    operands, weight = huge
    x_MK = torch.ones(1, 1, dtype=torch.bfloat16)
    last = ROWS % 64

    if kernel == "dequantize":
        found = dequantize.dequantize(operands, torch.bfloat16)[-(ROWS % 32) :, 0]
    elif kernel == "scale_tile":
        config = ScaleTileConfig(tiles_per_program=1)
        found = scale_tile.launch(x_MK, operands, config=config)[0, -last:]
    elif kernel == "scale_tile_gemm":
        gemm_config = ScaleTileGemmConfig(block_m=16, block_n=64)
        found = scale_tile_gemm.launch(x_MK, operands, config=gemm_config)[0, -last:]
    else:
        decode_config = RankExpandedConfig(tiles_per_program=1)
        found = rank_expanded.launch(x_MK, rank_expanded.prepare(operands), config=decode_config)[0, -last:]

    torch.testing.assert_close(found.double(), weight[-len(found) :, 0], rtol=2e-2, atol=1e-6)
