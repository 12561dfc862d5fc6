"""LoRDS and its baselines are tuned on equal terms: the same search spaces, every kernel that takes a product."""

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import pytest

from lords_bench.cli.parser import build_parser
from lords_bench.cli.tune import ordered_tasks
from lords_bench.cli.tune.asked import candidates
from lords_bench.kernels.blockwise import space as blockwise
from lords_bench.kernels.blockwise_gemm import space as blockwise_gemm
from lords_bench.kernels.rank_expanded import space as rank_expanded
from lords_bench.kernels.scale_tile import space as scale_tile
from lords_bench.kernels.scale_tile_gemm import space as scale_tile_gemm
from lords_bench.records.tuned import Problem
from lords_bench.tuning.plan import DEFAULT_KERNELS, FAKE_MACHINE
from lords_bench.tuning.problems import block_problems, lords_problem
from lords_bench.visit.plan import plan


def lacking(baseline: Sequence[Any], ours: Sequence[Any]) -> set[tuple[object, ...]]:
    """Values, in the fields that both configurations have, that only our space has."""
    shared = [field.name for field in fields(baseline[0]) if hasattr(ours[0], field.name)]
    found = {tuple(getattr(config, name) for name in shared) for config in ours}
    return found - {tuple(getattr(config, name) for name in shared) for config in baseline}


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_the_space_of_a_baseline_is_never_smaller_than_ours(bits: int) -> None:
    assert not lacking(blockwise.space(bits=bits), scale_tile.space(bits=bits))
    assert not lacking(blockwise.space(bits=bits), rank_expanded.space(bits=bits))
    assert not lacking(blockwise_gemm.space(), scale_tile_gemm.space())


def test_a_space_without_one_of_our_tiles_is_noticed() -> None:
    narrow = [config for config in blockwise.space(bits=4) if config.blocks_k != 4]

    assert lacking(narrow, scale_tile.space(bits=4))


def test_a_space_holds_each_configuration_once() -> None:
    for space in (blockwise.space(bits=4), blockwise_gemm.space()):
        assert len(set(map(astuple, space))) == len(space)


def problems(m: int, *, rank: int = 32) -> tuple[Problem, ...]:
    return (
        lords_problem(m=m, n=4096, k=4096, bits=4, rank=rank, x_dtype="bfloat16"),
        *block_problems(m=m, n=4096, k=4096, bits=4, block=64, x_dtype="bfloat16"),
    )


@pytest.mark.parametrize(
    ("m", "lords", "blocks"),
    [
        (1, ("scale_tile", "rank_expanded", "scale_tile_gemm", "dequantize_matmul"),
         ("blockwise", "blockwise_gemm", "blockwise_dequantize_matmul")),
        (16, ("scale_tile", "scale_tile_gemm", "dequantize_matmul"),
         ("blockwise", "blockwise_gemm", "blockwise_dequantize_matmul")),
        (256, ("scale_tile_gemm", "dequantize_matmul"), ("blockwise_gemm", "blockwise_dequantize_matmul")),
    ],
)  # fmt: skip
def test_every_kernel_that_takes_a_product_is_tuned_for_it_the_formula_s_first(
    m: int, lords: tuple[str, ...], blocks: tuple[str, ...]
) -> None:
    found = [candidates(DEFAULT_KERNELS["cuda"], problem, FAKE_MACHINE) for problem in problems(m)]

    assert found == [lords, blocks, blocks]


def test_a_budget_that_ends_early_has_tuned_the_first_kernel_of_every_format() -> None:
    tasks = ordered_tasks(DEFAULT_KERNELS["cuda"], problems(1), FAKE_MACHINE, "fake")

    kernels = [task.key.kernel for task in tasks]
    assert kernels[:3] == ["scale_tile", "blockwise", "blockwise"]
    assert kernels[-3:] == ["route"] * 3
    assert {"rank_expanded", "blockwise_gemm"} < set(kernels)


def test_no_tuning_step_of_a_visit_leaves_a_kernel_out() -> None:
    steps = [step for step in plan("cuda", Path("out")) if step.name.startswith("tune")]

    words = [[text.format(seconds="90") for text in step.arguments] for step in steps]
    asked = [build_parser(given).parse_args(given) for given in words]

    assert [arguments.kernels for arguments in asked] == [(), (), ()]
