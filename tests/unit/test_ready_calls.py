"""What a weight keeps of a call changes nothing but the time of the next one."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from lords_bench.kernel_check import make_case, prepared_for
from lords_bench.kernel_registry import KERNELS, lords_operands
from lords_bench.kernels.common.gpu import Gpu, pretended_gpu
from lords_bench.kernels.common.ready import MOST_CALLS
from lords_bench.kernels.scale_tile import launch as scale_tile
from lords_bench.kernels.scale_tile.space import ScaleTileConfig
from lords_bench.prepared import prepare
from lords_bench.static.pretended import Launch, pretended_target
from lords_bench.static.target import named_target

CPU = torch.device("cpu")
GPU = Gpu(arch="sm_90", sm_count=132)
N, K = 256, 512
PRODUCTS = ("rank_expanded", "scale_tile", "scale_tile_gemm", "blockwise", "blockwise_gemm")


@pytest.fixture
def launched() -> Iterator[list[Launch]]:
    """Launches as they come, on a GPU that is pretended; nothing is compiled."""
    found: list[Launch] = []
    with pretended_gpu(GPU), pretended_target(named_target(GPU.arch), found.append, until="nothing"):
        yield found


def weight_of(kernel: str) -> Any:
    case = make_case(1, N, K, bits=4, rank=16, dtype=torch.bfloat16, device=CPU)
    return prepared_for(KERNELS[kernel], case, "grid7")


def calls() -> list[tuple[Tensor, Tensor | None]]:
    """Activations that differ in what a launch is specialised on, with and without a bias."""
    wide = torch.randn(4, 2 * K + 8).bfloat16()
    bias_N = torch.randn(N).bfloat16()
    return [
        (wide[:4, :K].contiguous(), None),
        (wide[:4, :K], None),
        (wide[:4, : 2 * K : 2], None),
        (wide[:4, 1 : K + 1], None),
        (wide[:1, :K], None),
        (wide[:1, :K], bias_N),
        (wide[:4, :K].contiguous(), bias_N),
        (wide[:4, :K].contiguous(), bias_N[1:].repeat(2)[:N]),
    ]


def told(launch: Launch) -> tuple[object, ...]:
    integers = [(name, value) for name, value in launch.args.items() if isinstance(value, int)]
    return launch.name, launch.hash, launch.grid, tuple(integers), launch.divisible_by_16


@pytest.mark.parametrize("kernel", PRODUCTS)
def test_a_call_runs_the_same_code_whatever_the_weight_was_called_with_before(
    kernel: str, launched: list[Launch]
) -> None:
    kept = weight_of(kernel)
    # Twice, so that every call is made once for the first time and once again.
    for x_MK, bias_N in (*calls(), *calls()):
        launched.clear()
        KERNELS[kernel].launch(x_MK, kept, bias_N, None)
        from_kept = [told(launch) for launch in launched]

        launched.clear()
        KERNELS[kernel].launch(x_MK, weight_of(kernel), bias_N, None)

        assert from_kept == [told(launch) for launch in launched]


def test_a_call_that_was_made_before_derives_nothing(launched: list[Launch], monkeypatch: pytest.MonkeyPatch) -> None:
    weight = weight_of("scale_tile")
    (x_MK, _), *_ = calls()
    scale_tile.launch(x_MK, lords_operands(weight))

    for name in ("default_config", "supports", "grid", "_constexprs", "require_matrix"):
        monkeypatch.delattr(scale_tile, name)
    scale_tile.launch(x_MK, lords_operands(weight))

    assert told(launched[0]) == told(launched[-1])


def test_configurations_and_gpus_have_calls_of_their_own(launched: list[Launch]) -> None:
    operands = lords_operands(weight_of("scale_tile"))
    (x_MK, _), *_ = calls()

    for tiles in (1, 4):
        scale_tile.launch(x_MK, operands, config=ScaleTileConfig(tiles_per_program=tiles))
    with pretended_gpu(Gpu(arch="sm_90", sm_count=1)):
        scale_tile.launch(x_MK, operands)

    assert len({launch.grid for launch in launched}) == 3


def test_a_copied_weight_takes_no_configuration_for_another(launched: list[Launch]) -> None:
    """A configuration is named by its identity, which another may have once it is gone."""
    operands = lords_operands(weight_of("scale_tile"))
    (x_MK, _), *_ = calls()
    for tiles in (1, 2, 4, 1, 2, 4):
        scale_tile.launch(x_MK, copy.deepcopy(operands), config=ScaleTileConfig(tiles_per_program=tiles))
        scale_tile.launch(x_MK, operands, config=ScaleTileConfig(tiles_per_program=tiles))
        operands = copy.deepcopy(operands)

        assert launched[-1].grid[1] == N // 64 // tiles == launched[-2].grid[1]


def test_a_weight_keeps_a_bounded_number_of_calls(launched: list[Launch]) -> None:
    weight = prepare(make_case(1, 16, 128, bits=4, rank=16, dtype=torch.bfloat16, device=CPU), torch.bfloat16)
    operands = lords_operands(weight)

    for m in range(1, 65):
        scale_tile.launch(torch.zeros(m, 128, dtype=torch.bfloat16), operands)
        scale_tile.launch(torch.zeros(m, 128, dtype=torch.bfloat16), operands, bias_N=torch.zeros(16))

    assert 0 < len(operands.memo) <= MOST_CALLS
    assert launched
