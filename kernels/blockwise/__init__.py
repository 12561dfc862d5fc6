"""The baseline: block-wise scales, with and without zero points, on the same packed format and decoders."""

from collections.abc import Iterator
from typing import Any

import torch

from lords_bench.kernels import dequantize
from lords_bench.kernels.common import static_case as static
from lords_bench.kernels.common.budget import ELEMENTWISE, FUSED, one_tile
from lords_bench.kernels.common.entry import Entry, Kernel, Roundings, Tuning, WorkForm, kernel_module
from lords_bench.kernels.common.gpu import Gpu

TUNING = Tuning(
    config=lambda: kernel_module("blockwise.space").BlockwiseConfig,
    space=lambda problem: kernel_module("blockwise.space").space(bits=problem.bits),
    rule=lambda problem, gpu: kernel_module("blockwise.space").default_config(
        problem.n, problem.k, bits=problem.bits, gpu=gpu, in_float32=problem.x_dtype == "float32"
    ),
    # A scale that is read instead of multiplied saves its conversion, and it is sums that are scaled, not weights.
    work=WorkForm(grid="split-k", issue=(3.0, 3.0, 3.0)),
)


def _cases(gpu: Gpu) -> Iterator[static.StaticCase]:
    for bits in static.BITS:
        yield from _fused_cases(gpu, bits)
    if not gpu.is_amd:
        yield from _fused_cases(gpu, 4, decoder="uniform", zero_points=True)
    for bits in static.BITS:
        yield static.StaticCase(
            kernel="blockwise",
            variant=f"dequantize nf{bits} G={static.BLOCK}",
            target=gpu.arch,
            budget=ELEMENTWISE,
            launched=static.Launched(
                kernel="blockwise_dequantize_matmul", problem=static.layer_problem(gpu, 8, bits, block=static.BLOCK)
            ),
        )


def _fused_cases(gpu: Gpu, bits: int, **fields: Any) -> Iterator[static.StaticCase]:
    def case(n: int, one: bool) -> static.StaticCase:
        problem = static.layer_problem(gpu, 8, bits, n=n, block=static.BLOCK, **fields)
        return static.StaticCase(
            kernel="blockwise",
            variant=f"{static.block_format(problem)} M≤8{static.rows_named(n)}",
            target=gpu.arch,
            budget=one_tile() if one else FUSED,
            launched=static.Launched(kernel="blockwise", problem=problem),
            bits_per_weight=problem.bits + static.BLOCK_SCALE_BITS * (1 + problem.zero_points),
            one_tile=one,
        )

    return static.with_a_loop(gpu, case, TUNING.rule)


KERNEL = Entry(
    name="blockwise",
    kernels=(
        Kernel(
            name="blockwise",
            weight="blockwise",
            takes=lambda m, weight, dtype: kernel_module("blockwise.launch").supports(m, weight.operands, dtype),
            launch=lambda x_MK, weight, bias_N, config: kernel_module("blockwise.launch").launch(
                x_MK, weight.operands, bias_N=bias_N, config=config, arrivals=weight.counters
            ),
            roots=("kernels.blockwise.launch:launch",),
            roundings=Roundings(count=0, of_table=True, of_zero=1),
            tuning=TUNING,
        ),
        # W to memory, then a dense product.
        Kernel(
            name="blockwise_dequantize_matmul",
            weight="blockwise",
            takes=lambda _m, weight, dtype: weight.takes_dtype(dtype),
            launch=lambda x_MK, weight, bias_N, config: torch.nn.functional.linear(
                x_MK, kernel_module("blockwise.launch").dequantize(weight.operands, x_MK.dtype, config=config), bias_N
            ),
            roots=("kernels.blockwise.launch:dequantize",),
            roundings=Roundings(count=1, of_table=True, of_zero=1),
            # The configurations are those of the LoRDS kernel, its plain default is the rule.
            tuning=Tuning(
                config=dequantize.TUNING.config,
                space=dequantize.TUNING.space,
                rule=lambda _problem, _gpu: kernel_module("dequantize.space").default_config(),
                work=dequantize.TUNING.work,
            ),
        ),
    ),
    cases=_cases,
    loops=("blockwise_kernel",),
)
