"""Gradients of a LoRDS layer with frozen codes: dB, dA and dX, no N×K gradient in memory."""

from collections.abc import Iterator
from types import MappingProxyType

import torch
from torch import Tensor

from lords_bench.kernels.common.budget import FLOAT32, THROUGH_SHARED_MEMORY
from lords_bench.kernels.common.check_case import SHAPES_OF_TOKENS, Check
from lords_bench.kernels.common.entry import Entry, Part, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.prepared import REFERENCE, PreparedWeight, operands_of
from lords_bench.kernels.common.static_case import BITS, TOKENS, Launched, StaticCase, layer_problem
from lords_bench.kernels.common.support import Support
from lords_bench.kernels.common.without_memory import kernel_operands, tokens_without_memory
from lords_bench.kernels.dequantize import dense
from lords_bench.kernels.peft_backward import check
from lords_bench.reference import products


def input_gradient(dy_MN: Tensor, weight: PreparedWeight) -> Tensor:
    """dx_MK = dy_MN @ W in the dtype of dy: W through a scratch matrix where there are kernels."""
    if weight.decoder == REFERENCE:
        return products.matmul_grad_input(dy_MN, weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, weight.bits)
    return dy_MN @ dense(weight, dy_MN.dtype)


def factor_gradients(dy_MN: Tensor, x_MK: Tensor, weight: PreparedWeight) -> tuple[Tensor, Tensor]:
    """dB_NR and dA_RK in the dtypes of B and A, deterministic."""
    if weight.decoder == REFERENCE:
        return products.matmul_grad_factors(
            dy_MN, x_MK, weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, weight.bits
        )
    found = kernel_module("peft_backward.launch").factor_gradients(dy_MN, x_MK, operands_of(weight))
    return found.db_NR.to(weight.b_NR.dtype), found.da_RK.to(weight.a_RK.dtype)


def _fused_input_gradient(dy_MN: Tensor, weight: PreparedWeight) -> Tensor:
    dx_MK: Tensor = kernel_module("peft_backward.launch").input_gradient(dy_MN, operands_of(weight))
    return dx_MK


def _takes_gradient(weight: PreparedWeight, dtype: torch.dtype) -> Support:
    found: Support = kernel_module("peft_backward.launch").input_gradient_supports(operands_of(weight), dtype)
    return found


def _launch_factor_gradients(asked: Launched) -> None:
    problem = asked.problem
    kernel_module("peft_backward.launch").factor_gradients(
        tokens_without_memory(problem, problem.n), tokens_without_memory(problem, problem.k), kernel_operands(problem),
        config=asked.config(lambda: kernel_module("peft_backward.space").FactorGradientsConfig),
    )  # fmt: skip


def _launch_input_gradient(asked: Launched) -> None:
    problem = asked.problem
    kernel_module("peft_backward.launch").input_gradient(
        tokens_without_memory(problem, problem.n), kernel_operands(problem),
        config=asked.config(lambda: kernel_module("peft_backward.space").InputGradientConfig),
    )  # fmt: skip


def _cases(gpu: Gpu) -> Iterator[StaticCase]:
    for bits in BITS:
        of_factors = layer_problem(gpu, TOKENS, bits, scale_dtype="float32")
        problems = {
            ("dA dB", "factor_gradients"): of_factors,
            ("dX", "input_gradient"): layer_problem(gpu, TOKENS, bits),
        }
        if not gpu.is_amd:
            problems["dA dB float32", "factor_gradients"] = layer_problem(
                gpu, TOKENS, bits, scale_dtype="float32", x_dtype="float32", decoder="table"
            )
        for (name, part), problem in problems.items():
            yield StaticCase(
                kernel="peft_backward",
                variant=f"{bits} bit {name}",
                target=gpu.arch,
                budget=FLOAT32 if problem.x_dtype == "float32" else THROUGH_SHARED_MEMORY,
                launched=Launched(kernel=part, problem=problem),
            )


_NARROW_LOADS = "packed codes are loaded 8 B at a time < 16"

KERNEL = Entry(
    name="peft_backward",
    parts=(
        Part(
            name="factor_gradients",
            launch=_launch_factor_gradients,
            space=lambda problem: kernel_module("peft_backward.space").factor_gradients_space(bits=problem.bits),
        ),
        Part(
            name="input_gradient",
            launch=_launch_input_gradient,
            space=lambda _problem: kernel_module("peft_backward.space").input_gradient_space(),
        ),
    ),
    checks=(
        Check(
            name="factor_gradients",
            trial=lambda case, decoder: check.factor_gradients(case, decoder, atomic=False),
            shapes=SHAPES_OF_TOKENS,
        ),
        Check(
            name="factor_gradients_atomic",
            trial=lambda case, decoder: check.factor_gradients(case, decoder, atomic=True),
            shapes=SHAPES_OF_TOKENS,
            repeatable=False,
        ),
        Check(
            name="input_gradient",
            trial=lambda case, decoder: check.input_gradient(case, decoder, _fused_input_gradient, _takes_gradient),
            shapes=SHAPES_OF_TOKENS,
        ),
        # As the operators do it: a dense product with the dequantized weight.
        Check(
            name="input_gradient_dense",
            trial=lambda case, decoder: check.input_gradient(case, decoder, input_gradient),
            shapes=SHAPES_OF_TOKENS,
            is_compiled=False,
        ),
    ),
    cases=_cases,
    misses=MappingProxyType(
        {
            # At 3 bits a K block is 256 wide, so 64 rows of dX's weights, which 16-byte loads need, leave four warps
            # without registers (6 to 3,500 spill instructions in six tilings). dX takes a scratch W and a dense matmul
            # for many tokens anyway.
            ("3 bit dX", "sm_80"): _NARROW_LOADS,
            ("3 bit dX", "sm_86"): _NARROW_LOADS,
            ("3 bit dX", "sm_89"): _NARROW_LOADS,
            ("3 bit dX", "sm_90"): _NARROW_LOADS,
            ("3 bit dX", "sm_100"): _NARROW_LOADS,
            ("3 bit dX", "sm_120"): _NARROW_LOADS,
            # On CDNA a launch takes more scalar registers than there are, and two or three of them are kept in lanes of
            # vector registers: no memory is touched.
            ("4 bit dX", "gfx950"): "2 registers spilled, 0 B of scratch memory",
            ("2 bit dX", "gfx950"): "3 registers spilled, 0 B of scratch memory",
            # On RDNA 3 a K block of 256 leaves no registers: eight tilings spill 38 to 150.
            ("3 bit dA dB", "gfx1100"): "38 registers spilled, 124 B of scratch memory",
        }
    ),
    loops=("input_gradient_kernel",),
)
