"""The search space of every kernel that can be tuned, by name, with the rule for shapes that were not tuned first."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from lords_bench.errors import UsageError
from lords_bench.records.tuned import Machine, Problem
from lords_bench.tuning import cpu_product, fake
from lords_bench.tuning.space import SearchSpace, listed_space

_Make = Callable[[Problem, Machine], SearchSpace]


def gpu_of_machine(machine: Machine) -> Any:
    """The machine as the kernels' rules know it."""
    major, minor = machine.capability
    gpu = import_module("lords_bench.kernels.common.gpu").Gpu
    return gpu(arch=f"sm_{major}{minor}", sm_count=machine.multiprocessors)


def _rank_expanded(problem: Problem, machine: Machine) -> SearchSpace:
    module = _module("rank_expanded")
    default = module.default_config(
        problem.n, problem.k, bits=problem.bits, decoder=problem.decoder, gpu=gpu_of_machine(machine)
    )
    return listed_space(module.space(bits=problem.bits, decoder=problem.decoder), default=default)


def _scale_tile(problem: Problem, machine: Machine) -> SearchSpace:
    module = _module("scale_tile")
    default = module.default_config(
        problem.m_bucket, problem.n, problem.k, bits=problem.bits, rank=problem.rank, gpu=gpu_of_machine(machine),
        in_float32=problem.x_dtype == "float32",
    )  # fmt: skip
    return listed_space(module.space(bits=problem.bits), default=default)


def _scale_tile_gemm(problem: Problem, machine: Machine) -> SearchSpace:
    module = _module("scale_tile_gemm")
    default = module.default_config(
        problem.m_bucket, bits=problem.bits, rank=problem.rank, decoder=problem.decoder, gpu=gpu_of_machine(machine)
    )
    return listed_space(module.space(), default=default)


def _dequantize(problem: Problem, machine: Machine) -> SearchSpace:
    module = _module("dequantize")
    in_float32 = "float32" in (problem.x_dtype, problem.scale_dtype)
    default = module.default_config(bits=problem.bits, in_float32=in_float32, gpu=gpu_of_machine(machine))
    return listed_space(module.space(), default=default)


def _blockwise_dequantize(_problem: Problem, _machine: Machine) -> SearchSpace:
    module = _module("dequantize")
    return listed_space(module.space(), default=module.default_config())


def _blockwise(problem: Problem, machine: Machine) -> SearchSpace:
    module = _module("blockwise")
    default = module.default_config(problem.n, problem.k, bits=problem.bits, gpu=gpu_of_machine(machine))
    return listed_space(module.space(bits=problem.bits), default=default)


def _blockwise_gemm(problem: Problem, machine: Machine) -> SearchSpace:
    module = _module("blockwise_gemm")
    default = module.default_config(problem.m_bucket, decoder=problem.decoder, gpu=gpu_of_machine(machine))
    return listed_space(module.space(), default=default)


SPACES: Mapping[str, _Make] = MappingProxyType(
    {
        "rank_expanded": _rank_expanded,
        "scale_tile": _scale_tile,
        "scale_tile_gemm": _scale_tile_gemm,
        "dequantize_matmul": _dequantize,
        "blockwise": _blockwise,
        "blockwise_gemm": _blockwise_gemm,
        "blockwise_dequantize_matmul": _blockwise_dequantize,
        cpu_product.NAME: lambda _problem, _machine: cpu_product.space(),
        fake.CLEAN: lambda _problem, _machine: fake.space(),
        fake.FAULTY: lambda _problem, _machine: fake.space(),
    }
)


def kernel_space(kernel: str, problem: Problem, machine: Machine) -> SearchSpace:
    """The configurations of a kernel for a problem, the formula's choice first.

    Raises:
        UsageError: a kernel that cannot be tuned; the message lists those that can.
    """
    if kernel not in SPACES:
        raise UsageError(f"kernel {kernel!r} has nothing to tune; known: {', '.join(SPACES)}")
    return SPACES[kernel](problem, machine)


def _module(folder: str) -> Any:
    return import_module(f"lords_bench.kernels.{folder}.space")
