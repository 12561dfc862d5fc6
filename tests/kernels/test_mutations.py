"""The checks can fail: every kernel is broken in five ways or more, and its own check sees each of them.

Wrong nibble, dropped tail, missing rank, wrong block, and the accumulator (block-wise kernels: `test_block_mutations`):

- *stale*, not reset between tiles, where a program walks over tiles (`scale_tile`, `rank_expanded`, and the sum of
  their split-K partials, which goes over the same tiles);
- *lost*, replaced instead of added to, where a program makes one tile in a loop, so that there is nothing to reset
  (`scale_tile_gemm`, `peft_backward`; in `fake_quantize` the loop is over ranks);
- `dequantize` has neither loop nor accumulator: its result is added to what memory held.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mutation import STALE_PARTIALS, STALE_TOTAL, Edits, import_edited
from problems import make_problem, make_x
from test_dequantize import check as check_dequantize
from test_fake_quantize import check as check_fake_quantize
from test_fake_quantize import weights_near
from test_peft_backward import check_factors, check_inputs
from test_rank_expanded import check as check_rank_expanded
from test_scale_tile import check as check_scale_tile
from test_scale_tile_gemm import check as check_gemm

from lords_bench.kernels.dequantize import launch as dequantize
from lords_bench.kernels.dequantize.space import DequantizeConfig
from lords_bench.kernels.fake_quantize import launch as fake_quantize
from lords_bench.kernels.fake_quantize.space import FakeQuantizeConfig
from lords_bench.kernels.peft_backward import launch as peft_backward
from lords_bench.kernels.peft_backward.space import FactorGradientsConfig, InputGradientConfig
from lords_bench.kernels.rank_expanded import launch as rank_expanded
from lords_bench.kernels.rank_expanded.space import RankExpandedConfig
from lords_bench.kernels.scale_tile import launch as scale_tile
from lords_bench.kernels.scale_tile.space import ScaleTileConfig
from lords_bench.kernels.scale_tile_gemm import launch as scale_tile_gemm
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig

WRONG_NIBBLE: Edits = {"common.decode": ("(4 * (position % 4))", "(4 * (3 - position % 4))")}
DROPPED_TAIL_OF_A: Edits = {"common.tiles": ("mask=(k < K)[None, :]", "mask=(k < K - 1)[None, :]")}
MISSING_RANK: Edits = {
    "common.tiles": ("a_ptr + tl.arange(0, RANK)[:, None] * K", "a_ptr + (tl.arange(0, RANK) % 15)[:, None] * K")
}
WRONG_BLOCK: Edits = {"common.decode": ("lane_columns // 16 * (16 * PLANES)", "lane_columns // 16 * 16")}

PROBLEM = make_problem(n=37, k=300, rank=16, bits=4)


def x_of(m: int) -> torch.Tensor:
    return make_x(m, PROBLEM.k, torch.float32)


def run_dequantize() -> None:
    check_dequantize(PROBLEM, "table", compute=torch.float32, result=torch.float32, config=DequantizeConfig(block_n=16))


def run_scale_tile() -> None:
    check_scale_tile(PROBLEM, "table", x_of(3), config=ScaleTileConfig(block_n=16, tiles_per_program=2))


def run_split_gemm() -> None:
    check_gemm(PROBLEM, "table", x_of(20), config=ScaleTileGemmConfig(block_m=16, block_n=64))


def run_joined_gemm() -> None:
    check_gemm(PROBLEM, "table", x_of(20), config=ScaleTileGemmConfig(form="joined", block_m=16, block_n=64))


def run_rank_expanded() -> None:
    check_rank_expanded(PROBLEM, "table", x_of(1), config=RankExpandedConfig(block_n=16, tiles_per_program=2))


def run_factor_gradients() -> None:
    dy_MN = make_x(40, PROBLEM.n, torch.float32, seed=1)
    check_factors(PROBLEM, "table", dy_MN, x_of(40), FactorGradientsConfig(block_m=16, block_n=32))


def run_input_gradient() -> None:
    check_inputs(PROBLEM, "table", make_x(20, PROBLEM.n, torch.float32), InputGradientConfig(block_m=16, block_n=32))


def run_fake_quantize() -> None:
    check_fake_quantize(PROBLEM, weights_near(PROBLEM, torch.float32), FakeQuantizeConfig(block_n=16, block_k=128))


KERNELS: dict[str, tuple[Callable[[], None], ModuleType, str, str, dict[str, Edits]]] = {
    "dequantize": (
        run_dequantize,
        dequantize,
        "dequantize.kernel",
        "dequantize_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": {"dequantize.kernel": ("(k < K)[None, :]", "(k < K - 1)[None, :]")},
            "missing rank": MISSING_RANK,
            "wrong block": {"dequantize.kernel": ("+ block * BLOCK_WORDS", "+ 0 * BLOCK_WORDS")},
            "added to what memory held": {
                "dequantize.kernel": (
                    "w_ptr.dtype.element_ty), mask",
                    "w_ptr.dtype.element_ty) + tl.load(w_ptrs, mask=inside), mask",
                )
            },
        },
    ),
    "scale_tile": (
        run_scale_tile,
        scale_tile,
        "scale_tile.kernel",
        "scale_tile_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": DROPPED_TAIL_OF_A,
            "missing rank": MISSING_RANK,
            "wrong block": WRONG_BLOCK,
            "stale accumulator": {"scale_tile.kernel": STALE_TOTAL},
            "stale sum of partials": STALE_PARTIALS,
        },
    ),
    "split_gemm": (
        run_split_gemm,
        scale_tile_gemm,
        "scale_tile_gemm.kernel",
        "split_gemm_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": DROPPED_TAIL_OF_A,
            "missing rank": MISSING_RANK,
            "wrong block": {"scale_tile_gemm.kernel": ("row_ptrs + first_block * BLOCK_WORDS", "row_ptrs")},
            "lost accumulator": {
                "scale_tile_gemm.kernel": (
                    "tl.dot(levels[position] * scale, x, total,",
                    "tl.dot(levels[position] * scale, x,",
                )
            },
        },
    ),
    "joined_gemm": (
        run_joined_gemm,
        scale_tile_gemm,
        "scale_tile_gemm.kernel",
        "joined_gemm_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": DROPPED_TAIL_OF_A,
            "missing rank": MISSING_RANK,
            "wrong block": {"scale_tile_gemm.kernel": ("row_ptrs + block * BLOCK_WORDS", "row_ptrs")},
            "lost accumulator": {
                "scale_tile_gemm.kernel": (
                    "tl.dot(join_eight(levels, first, BLOCK_N) * scale, x, total,",
                    "tl.dot(join_eight(levels, first, BLOCK_N) * scale, x,",
                )
            },
        },
    ),
    "rank_expanded": (
        run_rank_expanded,
        rank_expanded,
        "rank_expanded.kernel",
        "rank_expanded_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": {"rank_expanded.kernel": ("mask=k < K", "mask=k < K - 1")},
            "missing rank": {
                "rank_expanded.kernel": (
                    "ranks = first_rank + tl.arange(0, RANK_CHUNK)",
                    "ranks = first_rank + tl.arange(0, RANK_CHUNK) % 15",
                )
            },
            "wrong block": {"rank_expanded.kernel": ("+ first_block * BLOCK_BYTES", "+ 0 * BLOCK_BYTES")},
            "stale accumulator": {
                "rank_expanded.kernel": (
                    (
                        "    for _ in range(tiles):\n",
                        ("    high_sum = tl.zeros((BLOCK_N, RANK_CHUNK), tl.int32)\n    for _ in range(tiles):\n"),
                    ),
                    ("            high_sum = tl.zeros((BLOCK_N, RANK_CHUNK), tl.int32)\n", ""),
                )
            },
            "stale sum of partials": STALE_PARTIALS,
        },
    ),
    "factor_gradients": (
        run_factor_gradients,
        peft_backward,
        "peft_backward.kernel",
        "factor_gradients_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": {
                "peft_backward.kernel": (
                    "for first_m in range(0, M, BLOCK_M)",
                    "for first_m in range(0, M - 8, BLOCK_M)",
                )
            },
            "missing rank": {
                "peft_backward.kernel": ("a_offsets = ranks[:, None] * K", "a_offsets = (ranks % 15)[:, None] * K")
            },
            "wrong block": {
                "peft_backward.kernel": (
                    "first_n.to(tl.int64) * row_words + block * BLOCK_WORDS",
                    "first_n.to(tl.int64) * row_words",
                )
            },
            "lost accumulator": {
                "peft_backward.kernel": ("tl.dot(tl.trans(dy), x, product,", "tl.dot(tl.trans(dy), x,")
            },
        },
    ),
    "input_gradient": (
        run_input_gradient,
        peft_backward,
        "peft_backward.kernel",
        "input_gradient_kernel",
        {
            "wrong nibble": WRONG_NIBBLE,
            "dropped tail": {
                "peft_backward.kernel": (
                    "for first_n in range(0, N, BLOCK_N)",
                    "for first_n in range(0, N - 8, BLOCK_N)",
                )
            },
            "missing rank": MISSING_RANK,
            "wrong block": {
                "peft_backward.kernel": (
                    "(first_n + rows).to(tl.int64) * row_words + block * BLOCK_WORDS",
                    "(first_n + rows).to(tl.int64) * row_words",
                )
            },
            "lost accumulator": {"peft_backward.kernel": ("tl.dot(dy, weight, total,", "tl.dot(dy, weight,")},
        },
    ),
    "fake_quantize": (
        run_fake_quantize,
        fake_quantize,
        "fake_quantize.kernel",
        "fake_quantize_kernel",
        {
            "wrong level": {"fake_quantize.kernel": ("        if i < LEVELS:", "        if i < LEVELS - 1:")},
            "dropped tail": {
                "fake_quantize.kernel": ("[:, None] & (k < K)[None, :]", "[:, None] & (k < K - 1)[None, :]")
            },
            "missing rank": {"fake_quantize.kernel": ("for rank in range(R)", "for rank in range(R - 1)")},
            "lost accumulator": {"fake_quantize.kernel": ("scale += b", "scale = b")},
            "wrong sign": {"fake_quantize.kernel": ("tl.where(scale < 0, -guarded, guarded)", "guarded")},
            "wrong mask": {
                "fake_quantize.kernel": ("(quotient >= lowest) & (quotient <= highest)", "(quotient >= lowest)")
            },
        },
    ),
}

CASES = [(kernel, defect) for kernel, (*_, defects) in KERNELS.items() for defect in defects]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_unbroken_kernel_passes_its_check(kernel: str) -> None:
    KERNELS[kernel][0]()


@pytest.mark.parametrize(("kernel", "defect"), CASES)
def test_a_broken_kernel_fails_its_check(
    kernel: str, defect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, launch, module, function, defects = KERNELS[kernel]
    broken = import_edited(module, defects[defect], tmp_path)
    monkeypatch.setattr(launch, function, getattr(broken, function))

    with pytest.raises(AssertionError, match=r"allowed|non-finite|assert"):
        run()
