"""The search space of every kernel that can be tuned, by name, with the rule for shapes that were not tuned first."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError
from lords_bench.records.tuned import Machine, Problem
from lords_bench.tuning import cpu_product, fake
from lords_bench.tuning.space import SearchSpace, listed_space

if TYPE_CHECKING:
    from lords_bench.kernels.common.gpu import Gpu

# What can be tuned without being a kernel of the registry.
_STAND_INS: Mapping[str, Callable[[], SearchSpace]] = MappingProxyType(
    {cpu_product.NAME: cpu_product.space, fake.CLEAN: fake.space, fake.FAULTY: fake.space}
)


def kernel_space(kernel: str, problem: Problem, machine: Machine) -> SearchSpace:
    """The configurations of a kernel for a problem, the formula's choice first.

    Raises:
        UsageError: a kernel that cannot be tuned; the message lists those that can.
    """
    if kernel in _STAND_INS:
        return _STAND_INS[kernel]()
    from lords_bench.products.registry import KERNELS

    tuning = KERNELS[kernel].tuning if kernel in KERNELS else None
    if tuning is None:
        known = (*(name for name, known in KERNELS.items() if known.tuning), *_STAND_INS)
        raise UsageError(f"kernel {kernel!r} has nothing to tune; known: {', '.join(known)}")
    return listed_space(tuning.space(problem), default=tuning.rule(problem, gpu_of_machine(machine)))


def gpu_of_machine(machine: Machine) -> "Gpu":
    """The machine as the kernels' rules know it."""
    from lords_bench.kernels.common.gpu import Gpu

    major, minor = machine.capability
    return Gpu(arch=f"sm_{major}{minor}", sm_count=machine.multiprocessors)
