"""What the arguments of `lords-bench tune` ask for, as problems."""

import argparse
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError
from lords_bench.spec.numbers import COUNT

if TYPE_CHECKING:
    from lords_bench.records.tuned import Machine, Problem

DTYPES = ("bfloat16", "float16", "float32")
_DEFAULT_SHAPES = {"cuda": "llama-3-8b", "cpu": "768x768", "fake": "4096x4096"}
_DEFAULT_M = {"cuda": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096), "cpu": (8,), "fake": (8,)}
_DEFAULT_DTYPE = {"cuda": "bfloat16", "cpu": "float32", "fake": "bfloat16"}


def problems_of(arguments: argparse.Namespace, kernels: tuple[str, ...]) -> "list[Problem]":
    """The problems that the arguments ask for, each once.

    Raises:
        UsageError: sizes that cannot be read, or an unknown model.
    """
    from lords_bench.tuning.keys import routed
    from lords_bench.tuning.plan import STAND_INS

    dtype = arguments.dtype or _DEFAULT_DTYPE[arguments.device]
    make = _stand_in_problem if set(kernels) <= STAND_INS else _kernel_problem
    found = [
        make(m, n, k, bits, rank, dtype)
        for bits in arguments.bits
        for n, k, rank in _shapes_and_ranks(arguments)
        for m in sorted(set(arguments.m or _DEFAULT_M[arguments.device]))
    ]
    if set(kernels) & set(routed("blockwise")):
        found = _beside(found, _block_problems(arguments, dtype))
    # Ranks and numbers of tokens that kernels pad to the same size are one problem.
    return list(dict.fromkeys(found))


def _beside(found: "list[Problem]", blocks: "list[Problem]") -> "list[Problem]":
    """The block-wise problems behind those of the same product: a budget that ends early has tuned both or neither."""
    place = {key: number for number, key in enumerate(dict.fromkeys(map(product_of, (*found, *blocks))))}
    return sorted((*found, *blocks), key=lambda problem: place[product_of(problem)])


def product_of(problem: "Problem") -> tuple[int, int, int, int]:
    """What problems of one product have in common, whatever the format of the weight."""
    return problem.bits, problem.n, problem.k, problem.m_bucket


def _shapes_and_ranks(arguments: argparse.Namespace) -> list[tuple[int, int, int]]:
    """(N, K, R): every rank with every shape, or with each shape the ranks that store as much as its blocks would."""
    from lords_bench.spec.quant import parity_rank

    shapes = _shapes(arguments.shapes or _DEFAULT_SHAPES[arguments.device])
    if arguments.ranks == "parity":
        return [(n, k, parity_rank(n, k, block)) for block in arguments.blocks for n, k in shapes]
    return [(n, k, rank) for rank in arguments.ranks for n, k in shapes]


def _block_problems(arguments: argparse.Namespace, dtype: str) -> "list[Problem]":
    from lords_bench.tuning.problems import block_problems

    return [
        problem
        for bits in arguments.bits
        for block in arguments.blocks
        for n, k in _shapes(arguments.shapes or _DEFAULT_SHAPES[arguments.device])
        for m in sorted(set(arguments.m or _DEFAULT_M[arguments.device]))
        for problem in block_problems(m=m, n=n, k=k, bits=bits, block=block, x_dtype=dtype)
    ]


def _kernel_problem(m: int, n: int, k: int, bits: int, rank: int, dtype: str) -> "Problem":
    from lords_bench.tuning.problems import lords_problem

    return lords_problem(m=m, n=n, k=k, bits=bits, rank=rank, x_dtype=dtype)


def _stand_in_problem(m: int, n: int, k: int, bits: int, rank: int, dtype: str) -> "Problem":
    """Of the made-up kernels and the product on a CPU, which no look-up asks for."""
    from lords_bench.records.tuned import Problem, m_bucket

    return Problem(
        m_bucket=m_bucket(m), n=n, k=k, bits=bits, rank=rank, x_dtype=dtype, scale_dtype="float32", decoder="reference"
    )


def candidates(kernels: tuple[str, ...], problem: "Problem", machine: "Machine") -> tuple[str, ...]:
    """Those of the kernels that take the problem, as they say themselves, the formula's first."""
    from lords_bench.kernel_registry.without_memory import blocks_without_memory, weight_without_memory
    from lords_bench.kernels.common.gpu import pretended_gpu
    from lords_bench.route import kernels_for
    from lords_bench.tuning.kernel_spaces import gpu_of_machine
    from lords_bench.tuning.plan import STAND_INS

    stand_ins = tuple(name for name in kernels if name in STAND_INS and problem.block is None)
    if stand_ins == kernels:
        return kernels
    weight = weight_without_memory(problem) if problem.block is None else blocks_without_memory(problem)
    with pretended_gpu(gpu_of_machine(machine)):
        taken = kernels_for(problem.m_bucket, weight)
    return (*(name for name in taken if name in kernels), *stand_ins)


def _shapes(text: str) -> list[tuple[int, int]]:
    from lords_bench.suites.latency import named_model

    found: list[tuple[int, int]] = []
    for part in text.split(","):
        if not part.strip()[:1].isdigit():
            found += [(layer.n, layer.k) for layer in named_model(part.strip()).layers]
            continue
        n, _, k = part.strip().lower().replace("×", "x").partition("x")
        try:
            found.append((COUNT(n), COUNT(k)))
        except argparse.ArgumentTypeError:
            raise UsageError(f"--shapes {part[:40]!r} is neither a model nor a size such as 4096x14336") from None
    return list(dict.fromkeys(found))
