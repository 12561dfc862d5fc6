"""The kernels as they ship, with the budget each is held to: what `lords-bench kernels --static` compiles."""

from collections.abc import Mapping

from lords_bench.kernels.common.budget import COUNTED_WITH_TRITON
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.static_case import StaticCase
from lords_bench.products.registry import ENTRIES
from lords_bench.static.launches import SM_COUNTS
from lords_bench.static.target import AMD_TARGETS, NVIDIA_TARGETS


def shipped_cases(targets: tuple[str, ...] = (*NVIDIA_TARGETS, *AMD_TARGETS)) -> tuple[StaticCase, ...]:
    """Every case of the targets, kernel by kernel. Imports Triton and the kernels' rules."""
    gpus = [Gpu(arch=target, sm_count=SM_COUNTS[target]) for target in targets]
    return tuple(case for entry in ENTRIES for gpu in gpus for case in entry.cases(gpu))


def known_exceptions(triton: str) -> Mapping[tuple[str, str], str]:
    """(label, target) to what is outside the budget, word for word; of another Triton than the budgets' none is known.

    With Triton 3.6.0 and 3.7.1 other kernels spill, above all on gfx1100; nobody has held the code of their launches
    against the budgets case by case.
    """
    if triton != COUNTED_WITH_TRITON:
        return {}
    return {
        (f"{entry.name} {variant}", target): text
        for entry in ENTRIES
        for (variant, target), text in entry.misses.items()
    }
