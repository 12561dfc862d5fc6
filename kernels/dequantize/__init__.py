"""LoRDS codes and factors to a dense matrix."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lords_bench.kernels.common.budget import FLOAT32, FUSED
from lords_bench.kernels.common.entry import Entry, Kernel, Part, Roundings, Tuning, WorkForm, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.prepared import PreparedWeight, operands_of
from lords_bench.kernels.common.static_case import BITS, Launched, StaticCase, layer_problem
from lords_bench.kernels.common.support import YES
from lords_bench.kernels.common.without_memory import kernel_operands

TUNING = Tuning(
    config=lambda: kernel_module("dequantize.space").DequantizeConfig,
    space=lambda _problem: kernel_module("dequantize.space").space(),
    rule=lambda problem, gpu: kernel_module("dequantize.space").default_config(
        bits=problem.bits, in_float32="float32" in (problem.x_dtype, problem.scale_dtype), gpu=gpu
    ),
    work=WorkForm(grid="scratch", issue=(4.7, 4.7, 4.7)),
)


def dense(weight: PreparedWeight, dtype: torch.dtype, config: object = None) -> Tensor:
    """W_NK in that dtype."""
    w_NK: Tensor = kernel_module("dequantize.launch").dequantize(operands_of(weight), dtype, config=config)
    return w_NK


def _cases(gpu: Gpu) -> Iterator[StaticCase]:
    for bits in BITS:
        for in_training in (False, True):
            factors = "float32" if in_training else "float16"
            yield StaticCase(
                kernel="dequantize",
                variant=f"{bits} bit" + (" float32 factors" if in_training else ""),
                target=gpu.arch,
                budget=FLOAT32 if in_training else FUSED,
                launched=Launched(kernel="dequantize", problem=layer_problem(gpu, 1, bits, scale_dtype=factors)),
            )


KERNEL = Entry(
    name="dequantize",
    kernels=(
        # W to memory, then a dense product.
        Kernel(
            name="dequantize_matmul",
            takes=lambda _m, _weight, _dtype: YES,
            launch=lambda x_MK, weight, bias_N, config: torch.nn.functional.linear(
                x_MK, dense(weight, x_MK.dtype, config), bias_N
            ),
            roots=("kernels.dequantize.launch:dequantize",),
            roundings=Roundings(count=1),
            tuning=TUNING,
        ),
    ),
    parts=(
        Part(
            name="dequantize",
            launch=lambda asked: kernel_module("dequantize.launch").dequantize(
                kernel_operands(asked.problem),
                getattr(torch, asked.problem.x_dtype),
                config=asked.config(TUNING.config),
            ),
            space=TUNING.space,
        ),
    ),
    cases=_cases,
)
