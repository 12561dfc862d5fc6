"""Quantization-aware training, forward: nearest code, its value and the straight-through mask in one pass over W."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lords_bench.kernels.common.budget import ELEMENTWISE
from lords_bench.kernels.common.check_case import SHAPES_OF_WEIGHTS, Check
from lords_bench.kernels.common.entry import Entry, Part, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.static_case import Launched, StaticCase, layer_problem
from lords_bench.kernels.common.without_memory import without_memory
from lords_bench.kernels.fake_quantize.check import fake_quantization


def fake_quantized(weight_NK: Tensor, b_NR: Tensor, a_RK: Tensor, levels_L: Tensor) -> tuple[Tensor, Tensor]:
    """Ŵ_NK in the dtype of W, and one byte per weight with its code and its straight-through mask."""
    found = kernel_module("fake_quantize.launch").launch(weight_NK, b_NR, a_RK, levels_L)
    return found.weight_NK, found.flagged_codes_NK


def _launch(asked: Launched) -> None:
    problem = asked.problem
    assert problem.rank is not None
    factors = getattr(torch, problem.scale_dtype)
    kernel_module("fake_quantize.launch").launch(
        without_memory(problem.n, problem.k, dtype=getattr(torch, problem.x_dtype)),
        without_memory(problem.n, problem.rank, dtype=factors),
        without_memory(problem.rank, problem.k, dtype=factors),
        without_memory(1 << problem.bits, dtype=torch.float32),
        config=asked.config(lambda: kernel_module("fake_quantize.space").FakeQuantizeConfig),
    )


def _cases(gpu: Gpu) -> Iterator[StaticCase]:
    yield StaticCase(
        kernel="fake_quantize",
        variant="4 bit",
        target=gpu.arch,
        budget=ELEMENTWISE,
        launched=Launched(kernel="fake_quantize", problem=layer_problem(gpu, 1, 4, scale_dtype="float32")),
    )


KERNEL = Entry(
    name="fake_quantize",
    parts=(
        Part(
            name="fake_quantize",
            launch=_launch,
            space=lambda _problem: kernel_module("fake_quantize.space").space(),
        ),
    ),
    checks=(Check(name="fake_quantize", trial=fake_quantization, shapes=SHAPES_OF_WEIGHTS),),
    cases=_cases,
)
