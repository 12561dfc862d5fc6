"""LoRDS matrix times vector with no scale per weight: integer tensor cores on codes, the factors applied outside."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lords_bench.kernels.common import static_case as static
from lords_bench.kernels.common.budget import Budget, one_tile
from lords_bench.kernels.common.entry import Entry, Kernel, Roundings, Tuning, WorkForm, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.prepared import PreparedWeight, operands_of
from lords_bench.kernels.common.support import Support, no


def _takes(m: int, weight: PreparedWeight, dtype: torch.dtype) -> Support:
    if weight.a_columns is None:
        return no("A is trained, or the levels are off the 7-bit grid; use scale_tile")
    found: Support = kernel_module("rank_expanded.launch").supports(m, operands_of(weight), dtype)
    return found


def _launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    kernel = kernel_module("rank_expanded.launch")
    operands = weight.memo.get("rank_expanded")
    if operands is None:
        operands = kernel.RankExpandedOperands(lords=operands_of(weight), a_columns=weight.a_columns)
        weight.memo["rank_expanded"] = operands
    y_MN: Tensor = kernel.launch(x_MK, operands, bias_N=bias_N, config=config, arrivals=weight.counters)
    return y_MN


TUNING = Tuning(
    config=lambda: kernel_module("rank_expanded.space").RankExpandedConfig,
    space=lambda problem: kernel_module("rank_expanded.space").space(bits=problem.bits, decoder=problem.decoder),
    rule=lambda problem, gpu: kernel_module("rank_expanded.space").default_config(
        problem.n, problem.k, bits=problem.bits, decoder=problem.decoder, gpu=gpu
    ),
    work=WorkForm(grid="split-k", issue=(2.7, 2.2, 1.7), integer=True),
)

# Instructions of the loop, and of all of a program with one tile, at levels on the 7-bit grid and at integer ones.
_LIMITS = MappingProxyType(
    {
        "4 bit": (2.3, 8.0), "3 bit": (1.9, 9.7), "2 bit": (1.4, 6.1),
        "int4": (1.45, 7.1), "int3": (1.9, 9.5), "int2": (1.13, 6.0),
    }
)  # fmt: skip


def _cases(gpu: Gpu) -> Iterator[static.StaticCase]:
    for bits in static.BITS:
        for levels in (f"{bits} bit",) if gpu.is_amd else (f"{bits} bit", f"int{bits}"):

            def case(n: int, one: bool, *, bits: int = bits, levels: str = levels) -> static.StaticCase:
                fields = {"decoder": "uniform"} if levels.startswith("int") else {}
                problem = static.layer_problem(gpu, 1, bits, n=n, **fields)
                in_loop, in_all = _LIMITS[levels]
                in_many = Budget(max_instructions_per_32_weights=in_loop, memory_bound=True)
                return static.StaticCase(
                    kernel="rank_expanded",
                    variant=f"{levels} M=1{static.rows_named(n)}",
                    target=gpu.arch,
                    budget=one_tile(in_all) if one else in_many,
                    launched=static.Launched(kernel="rank_expanded", problem=problem),
                    bits_per_weight=bits + static.FACTOR_BITS,
                    one_tile=one,
                )

            yield from static.with_a_loop(gpu, case, TUNING.rule)


KERNEL = Entry(
    name="rank_expanded",
    kernels=(
        Kernel(
            name="rank_expanded",
            takes=_takes,
            launch=_launch,
            roots=("kernels.rank_expanded.launch:launch",),
            roundings=Roundings(count=0, fixed_point=True),
            tuning=TUNING,
        ),
    ),
    cases=_cases,
    loops=("rank_expanded_kernel",),
)
