"""Kernels × problems on a device to tasks for the tuner."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from lords_bench.errors import UsageError
from lords_bench.products.routes import routed
from lords_bench.records.trial import Evidence, MachineCode, Settings
from lords_bench.records.tuned import ROUTE, Machine, Problem, TunedKey
from lords_bench.source import TREE, sha256_of, statements
from lords_bench.static.target import TARGETS
from lords_bench.timing.probe import cpu_model
from lords_bench.tuning import cpu_product, fake
from lords_bench.tuning.kernel_spaces import kernel_space
from lords_bench.tuning.model import gpu_model, guess
from lords_bench.tuning.space import SearchSpace
from lords_bench.tuning.strategies import Guess
from lords_bench.tuning.tasks import Inspected, RouteTask, Task

# What is tuned where nothing is named: the kernels that the route of a product takes, of LoRDS and of the block-wise
# baselines, since a baseline that is not tuned would lose for that; one stand-in elsewhere.
DEFAULT_KERNELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cuda": (*routed("lords"), *routed("blockwise")),
        "cpu": (cpu_product.NAME,),
        "fake": (fake.FAULTY,),
    }
)
# What can be tuned without being a kernel of the registry.
STAND_INS = frozenset({cpu_product.NAME, *fake.FAKE_KERNELS})
FAKE_MACHINE = Machine(gpu="fake", capability=(9, 0), multiprocessors=132, driver=None, triton="none")


def machine_for(device: str) -> Machine:
    """The machine that times will hold for.

    Raises:
        UsageError: there is no such device.
    """
    if device == "fake":
        return FAKE_MACHINE
    if device == "cpu":
        return Machine(
            gpu=cpu_model() or "cpu", capability=(0, 0), multiprocessors=1, driver=None, triton=_triton_version()
        )
    import torch

    if not torch.cuda.is_available():
        raise UsageError("no CUDA device to tune on; '--device fake' or '--device cpu' runs the tuner without one")
    from lords_bench.products.keys import cuda_machine

    return cuda_machine(torch.cuda.current_device())


def make_task(kernel: str, problem: Problem, machine: Machine, device: str, *, workers: int | None = None) -> Task:
    """One kernel and problem on a device.

    Raises:
        UsageError: a kernel that cannot be tuned there.
    """
    check_kernel(kernel, device)
    space = kernel_space(kernel, problem, machine)
    evidence: Evidence = "fake" if device == "fake" else "measured"
    key = TunedKey(kernel=kernel, source_sha256=source_of(kernel), problem=problem, machine=machine)
    return Task(
        key=key,
        evidence=evidence,
        space=space,
        guesses=_guesses(kernel, space, problem, machine),
        inspect=_inspect(kernel, problem, machine, device, workers),
    )


def make_route(problem: Problem, members: Sequence[Task]) -> RouteTask:
    """The choice between tuned kernels for a problem.

    Args:
        problem: that all of them are tuned for.
        members: the kernels' tasks, that of the formula first.
    """
    from lords_bench.products.keys import key_of

    first = members[0]
    return RouteTask(key=key_of(ROUTE, problem, first.key.machine), evidence=first.evidence, members=tuple(members))


def check_kernel(kernel: str, device: str) -> None:
    """Refuse a kernel that the device cannot run.

    Raises:
        UsageError: naming both, and what the device can run.
    """
    from lords_bench.products.registry import KERNELS

    real = tuple(name for name, known in KERNELS.items() if known.tuning is not None)
    known = {"cuda": real, "cpu": (cpu_product.NAME,), "fake": (*fake.FAKE_KERNELS, *real)}[device]
    if kernel not in known:
        raise UsageError(f"kernel {kernel!r} cannot be tuned on device {device!r}; known there: {', '.join(known)}")


def _guesses(kernel: str, space: SearchSpace, problem: Problem, machine: Machine) -> tuple[Guess, ...]:
    if kernel in fake.FAKE_KERNELS:
        return tuple(fake.guess(config, problem) for config in space.configs)
    gpu = None
    if kernel != cpu_product.NAME:
        gpu = gpu_model(machine.gpu, machine.capability, machine.multiprocessors)
    return tuple(guess(kernel, config, problem, gpu) for config in space.configs)


def source_of(kernel: str) -> str:
    """Hash of the source of a kernel, or of the module of a stand-in."""
    if kernel in STAND_INS:
        return sha256_of(statements(TREE, [(cpu_product if kernel == cpu_product.NAME else fake).__name__]))
    from lords_bench.products.keys import kernel_source

    return kernel_source(kernel)


def _inspect(
    kernel: str, problem: Problem, machine: Machine, device: str, workers: int | None
) -> Callable[[Sequence[Settings]], Sequence[Inspected]] | None:
    if kernel in fake.FAKE_KERNELS:
        return lambda configs: [
            Inspected(code=MachineCode(shared_bytes=fake.shared_bytes(config))) for config in configs
        ]
    target = f"sm_{machine.capability[0]}{machine.capability[1]}"
    if device != "cuda" or target not in TARGETS:
        return None
    return partial(_compile, kernel, problem, target, workers)


def _compile(
    kernel: str, problem: Problem, target: str, workers: int | None, configs: Sequence[Settings]
) -> list[Inspected]:
    from lords_bench.tuning.code import compile_configs

    begin = time.monotonic_ns()
    compiled = compile_configs(kernel, configs, problem, TARGETS[target], workers=workers)
    each_ns = (time.monotonic_ns() - begin) // len(configs)
    return [
        Inspected(status=found.status, reason=found.reason, code=found.code, launch=found.launch, compile_ns=each_ns)
        for found in compiled
    ]


def _triton_version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return "none"
