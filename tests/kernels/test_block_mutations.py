"""The checks can fail: every block-wise kernel is broken in six ways, and its own check sees each of them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from block_problems import make_blocks
from mutation import STALE_PARTIALS, STALE_TOTAL, Edits, import_edited
from problems import make_x
from test_blockwise import check as check_blockwise
from test_blockwise_gemm import check as check_gemm

from lords_bench.kernels.blockwise import launch as blockwise
from lords_bench.kernels.blockwise.space import BlockwiseConfig
from lords_bench.kernels.blockwise_gemm import launch as blockwise_gemm
from lords_bench.kernels.blockwise_gemm.space import BlockwiseGemmConfig

PROBLEM = make_blocks(n=37, k=300, bits=4, block=64, has_zero=True)
LARGE_BLOCKS = make_blocks(n=37, k=600, bits=4, block=256)


def run_blockwise() -> None:
    config = BlockwiseConfig(block_n=16, tiles_per_program=2)
    check_blockwise(PROBLEM, "table", make_x(3, PROBLEM.k, torch.float32), config=config)


def run_split_gemm() -> None:
    config = BlockwiseGemmConfig(block_m=16, block_n=64)
    check_gemm(PROBLEM, "table", make_x(20, PROBLEM.k, torch.float32), config=config)


def run_joined_gemm() -> None:
    config = BlockwiseGemmConfig(form="joined", block_m=16, block_n=64)
    check_gemm(PROBLEM, "grid7", make_x(20, PROBLEM.k, torch.float16), config=config)


def run_large_blocks() -> None:
    config = BlockwiseGemmConfig(block_m=16, block_n=64)
    check_gemm(LARGE_BLOCKS, "table", make_x(20, LARGE_BLOCKS.k, torch.float32), config=config)


WRONG_NIBBLE: Edits = {"common.decode": ("(4 * (position % 4))", "(4 * (3 - position % 4))")}
GEMM_DEFECTS: dict[str, Edits] = {
    "dropped tail": {
        "common.tiles": ("(columns < COLUMNS)[:, None] & (rows_m", "(columns < COLUMNS - 1)[:, None] & (rows_m")
    },
    "wrong scale": {"blockwise_gemm.kernel": ("weight * scales[position // TOGETHER]", "weight * scales[0]")},
    "missing zero point": {
        "blockwise_gemm.kernel": ("weight -= zeros[position // TOGETHER]", "weight -= 0 * zeros[position // TOGETHER]")
    },
    "wrong block": {"blockwise_gemm.kernel": ("row_ptrs + block * BLOCK_WORDS", "row_ptrs")},
    "stale accumulator": {"common.results": ("y = total * LEVEL_UNIT", "y = total * LEVEL_UNIT + rows_m[None, :]")},
}  # fmt: skip

KERNELS: dict[str, tuple[Callable[[], None], ModuleType, str, dict[str, Edits]]] = {
    "blockwise": (
        run_blockwise,
        blockwise,
        "blockwise_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": {
                "blockwise.kernel": ("x_ptr, rows_m, k, M, K, x_stride_m", "x_ptr, rows_m, k, M, K - 1, x_stride_m")
            },
            "wrong scale": {
                "blockwise.kernel": (
                    "number = (k_of_block * KB + first * 16) // BLOCK",
                    "number = (k_of_block * KB) // BLOCK",
                )
            },
            "missing zero point": {"blockwise.kernel": ("part -= zero[:, None]", "part -= 0 * zero[:, None]")},
            "wrong block": {"blockwise.kernel": ("row_ptrs + k_of_block * (16 * PLANES)", "row_ptrs")},
            "stale accumulator": {"blockwise.kernel": STALE_TOTAL},
            "stale sum of partials": STALE_PARTIALS,
        },
    ),
    "split gemm": (
        run_split_gemm, blockwise_gemm, "blockwise_gemm_kernel", {"wrong nibble": WRONG_NIBBLE, **GEMM_DEFECTS},
    ),
    "joined gemm": (
        run_joined_gemm,
        blockwise_gemm,
        "blockwise_gemm_kernel",
        {
            # A position out of its place: the codes themselves come from inline PTX, which has checks of its own.
            "wrong position": {
                "blockwise_gemm.kernel": ("weight = levels[position]", "weight = levels[position ^ 1]")
            },
            "wrong half of a pair": {"blockwise_gemm.kernel": ("high = (pair >> 16)", "high = pair")},
            **GEMM_DEFECTS,
        },
    ),
    "gemm with large blocks": (
        run_large_blocks,
        blockwise_gemm,
        "blockwise_gemm_kernel",
        {
            "wrong half of a pair": {"blockwise_gemm.kernel": ("shift_ptr + first % 2", "shift_ptr + 0 * first")},
            "wrong scale": {"blockwise_gemm.kernel": ("else block // (BLOCK // KB)", "else block")},
        },
    ),
}  # fmt: skip

CASES = [(kernel, defect) for kernel, (*_, defects) in KERNELS.items() for defect in defects]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_unbroken_kernel_passes_its_check(kernel: str) -> None:
    KERNELS[kernel][0]()


@pytest.mark.parametrize(("kernel", "defect"), CASES)
def test_a_broken_kernel_fails_its_check(
    kernel: str, defect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, launch, function, defects = KERNELS[kernel]
    broken = import_edited(f"{launch.__name__.split('.')[-2]}.kernel", defects[defect], tmp_path)
    monkeypatch.setattr(launch, function, getattr(broken, function))

    with pytest.raises(AssertionError, match=r"allowed|non-finite|assert"):
        run()
