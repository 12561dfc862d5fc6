"""What the arguments of `lords-bench tune` ask for, as problems."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lords_bench.errors import UsageError
from lords_bench.options import BIT_COUNTS, COUNT, COUNTS, DURATION, SECONDS, SEED, WORKERS, Wholes, argument, option

if TYPE_CHECKING:
    from lords_bench.records.tuned import Machine, Problem

_RANKS = Wholes(each=COUNT, word="parity")
_DEFAULT_SHAPES = {"cuda": "llama-3-8b", "cpu": "768x768", "fake": "4096x4096"}
_DEFAULT_M = {"cuda": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096), "cpu": (8,), "fake": (8,)}
_DEFAULT_DTYPE = {"cuda": "bfloat16", "cpu": "float32", "fake": "bfloat16"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneSettings:
    """Tries configurations, and writes what is proven faster than the formula to the table that products look up.

    Each is checked before it is timed. Every finished configuration is kept: an interrupted run goes on where it
    stopped.
    """

    kernels: tuple[str, ...] = argument(
        "kernels to tune (default: all of the device)", metavar="KERNEL", nargs="*", default=()
    )
    shapes: str | None = option("layers of a model, or sizes such as 4096x4096", metavar="NAME|NxK,…", default=None)
    bits: tuple[int, ...] = option("numbers of bits", BIT_COUNTS, default=(4,))
    ranks: tuple[int, ...] | Literal["parity"] = option(
        "ranks of the scale, or parity: those of --blocks", _RANKS, metavar="R,…", default=(16,)
    )
    blocks: tuple[int, ...] = option("inputs per scale of block-wise baselines", COUNTS, metavar="G,…", default=(64,))
    m: tuple[int, ...] | None = option(
        "numbers of tokens (default: the whole ladder on a GPU)", COUNTS, metavar="M,…", default=None
    )
    dtype: Literal["bfloat16", "float16", "float32"] | None = option(
        "of activations (default: bfloat16; float32 on a CPU)", default=None
    )
    budget: float | None = option("such as 90s, 5m or 1h; what is found by then counts", DURATION, default=None)
    least: float | None = option("what a problem gets of the budget before the next is begun", DURATION, default=None)
    strategy: str | None = option("ranked, tpe, random or exhaustive (default: ranked)", metavar="NAME", default=None)
    exhaustive: bool = option("try every configuration", default=False)
    full: bool = option("measure run-offs to the full precision, not the quick one", default=False)
    retry_failed: bool = option("try again what failed in an earlier run", default=False)
    timeout: float = option("seconds that one try may take", SECONDS, default=30.0)
    workers: int | None = option("compile processes (default: one per core)", WORKERS, default=None)
    seed: int = option("of the search", SEED, default=0)
    device: Literal["cuda", "cpu", "fake"] = option("to tune on", default="cuda")
    out: Path | None = option("folder of tables (default: this user's)", metavar="DIR", default=None)


def problems_of(arguments: TuneSettings, kernels: tuple[str, ...]) -> "list[Problem]":
    """The problems that the arguments ask for, each once.

    Raises:
        UsageError: sizes that cannot be read, or an unknown model.
    """
    from lords_bench.products.routes import routed
    from lords_bench.tuning.plan import STAND_INS

    dtype = arguments.dtype or _DEFAULT_DTYPE[arguments.device]
    make = _stand_in_problem if set(kernels) <= STAND_INS else _kernel_problem
    found = [
        make(m, n, k, bits, rank, dtype)
        for bits in arguments.bits
        for n, k, rank in _shapes_and_ranks(arguments)
        for m in sorted(set(tokens_of(arguments)))
    ]
    if set(kernels) & set(routed("blockwise")):
        found = _beside(found, _block_problems(arguments, dtype))
    # Ranks and numbers of tokens that kernels pad to the same size are one problem.
    return list(dict.fromkeys(found))


def tokens_of(arguments: TuneSettings) -> tuple[int, ...]:
    """The numbers of tokens asked for, or those of the device."""
    return arguments.m or _DEFAULT_M[arguments.device]


def _beside(found: "list[Problem]", blocks: "list[Problem]") -> "list[Problem]":
    """The block-wise problems behind those of the same product: a budget that ends early has tuned both or neither."""
    place = {key: number for number, key in enumerate(dict.fromkeys(map(product_of, (*found, *blocks))))}
    return sorted((*found, *blocks), key=lambda problem: place[product_of(problem)])


def product_of(problem: "Problem") -> tuple[int, int, int, int]:
    """What problems of one product have in common, whatever the format of the weight."""
    return problem.bits, problem.n, problem.k, problem.m_bucket


def _shapes_and_ranks(arguments: TuneSettings) -> list[tuple[int, int, int]]:
    """(N, K, R): every rank with every shape, or with each shape the ranks that store as much as its blocks would."""
    from lords_bench.quant import parity_rank

    shapes = _shapes(arguments.shapes or _DEFAULT_SHAPES[arguments.device])
    if arguments.ranks == "parity":
        return [(n, k, parity_rank(n, k, block)) for block in arguments.blocks for n, k in shapes]
    return [(n, k, rank) for rank in arguments.ranks for n, k in shapes]


def _block_problems(arguments: TuneSettings, dtype: str) -> "list[Problem]":
    from lords_bench.tuning.problems import block_problems

    return [
        problem
        for bits in arguments.bits
        for block in arguments.blocks
        for n, k in _shapes(arguments.shapes or _DEFAULT_SHAPES[arguments.device])
        for m in sorted(set(tokens_of(arguments)))
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
    from lords_bench.kernels.common.gpu import pretended_gpu
    from lords_bench.kernels.common.without_memory import any_without_memory
    from lords_bench.products.route import kernels_for, takes, tokens_of
    from lords_bench.tuning.kernel_spaces import gpu_of_machine
    from lords_bench.tuning.plan import STAND_INS

    stand_ins = tuple(name for name in kernels if name in STAND_INS and problem.block is None)
    if stand_ins == kernels:
        return kernels
    weight, tokens = any_without_memory(problem), tokens_of(problem.m_bucket)
    with pretended_gpu(gpu_of_machine(machine)):
        in_route = kernels_for(problem.m_bucket, weight)
        others = [name for name in kernels if name not in in_route and takes(name, tokens, weight)]
    return (*(name for name in in_route if name in kernels), *others, *stand_ins)


def _shapes(text: str) -> list[tuple[int, int]]:
    from lords_bench.suites.latency.cases import named_model

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
