"""One launch of a compiled kernel: arguments into memory and parameters, CTAs in batches, faults and counts."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lords_bench.emulator.counters import Counters, LaunchCounts
from lords_bench.emulator.decode import DecodedKernel, decode
from lords_bench.emulator.faults import Bits, Fault, FaultLog
from lords_bench.emulator.formats import storage, to_bits
from lords_bench.emulator.global_memory import GlobalMemory
from lords_bench.emulator.machine import Machine, Setting
from lords_bench.emulator.products import Products
from lords_bench.emulator.shared_memory import SharedMemory
from lords_bench.emulator.target import MOST_BLOCKS
from lords_bench.errors import EmulationError

Argument = torch.Tensor | float | None
# Threads that execute together: enough for numpy to be worth its call, few enough for its arrays to stay in a cache.
BATCH_THREADS = 2048
# Pointers to scratch memory that Triton appends to the parameters, and that kernels here do not use.
_MOST_SCRATCH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class EmulationOptions:
    """How to execute, where hardware leaves a choice.

    Attributes:
        truncate: tensor cores cut float32 sums off instead of rounding them.
        shuffle: seed of the order of CTAs; None is by number.
        batch_threads: threads that execute together.
        most_instructions: warp instructions after which no more CTAs begin, for the counts of a launch that is too
            long; None runs all. Then CTAs come by whole rows of the grid (those that differ in x alone, which is where
            split-K kernels here meet), evenly spread, from the middle outwards.
    """

    truncate: bool = False
    shuffle: int | None = None
    batch_threads: int = BATCH_THREADS
    most_instructions: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What came of a launch.

    Attributes:
        kernel: name of the entry function.
        target: that it was compiled for, `sm_90a`.
        grid: CTAs in x, y and z.
        executed: CTAs that were executed: all of them, unless the options set an end.
        threads: of a CTA.
        shared_bytes: of a CTA.
        faults: what the kernel did that a GPU would not forgive; empty is good.
        counts: what was executed.
        seconds: that emulating took.
    """

    kernel: str
    target: str
    grid: tuple[int, int, int]
    executed: int
    threads: int
    shared_bytes: int
    faults: tuple[Fault, ...]
    counts: LaunchCounts
    seconds: float


def execute(
    ptx: str,
    grid: tuple[int, int, int],
    arguments: Sequence[tuple[str, Argument]],
    *,
    shared_bytes: int = 0,
    options: EmulationOptions | None = None,
) -> Launch:
    """Run a compiled kernel on tensors of the CPU, in place.

    Args:
        ptx: text with one entry function.
        grid: CTAs in x, y and z.
        arguments: (name, value) in the order of the entry function's parameters.
        shared_bytes: shared memory of each CTA.
        options: None are the defaults.

    Raises:
        EmulationError: an instruction that is not known, arguments or a grid that do not fit, no end in sight.
    """
    started, options = time.perf_counter(), options or EmulationOptions()
    if any(not 0 < count <= most for count, most in zip(grid, MOST_BLOCKS, strict=True)):
        raise EmulationError(f"grid is {grid}; each dimension must be from 1 to {MOST_BLOCKS}")
    kernel, log, counters = decode(ptx), FaultLog(), Counters()
    tensors = [(name, value) for name, value in arguments if isinstance(value, torch.Tensor)]
    memory = GlobalMemory(tensors, log, granule=kernel.global_granule)
    setting = Setting(
        memory=memory, log=log, counters=counters, parameters=_parameters(kernel, memory, arguments), grid=grid,
        truncate=options.truncate,
    )  # fmt: skip
    threads = kernel.program.threads
    executed = 0
    for ctas, is_start in _batches(grid, threads, options):
        most = options.most_instructions
        if is_start and executed and most is not None and counters.executed(kernel.executable.blocks) >= most:
            break
        executed += len(ctas)
        shared = SharedMemory(log, ctas=len(ctas), size=shared_bytes, threads=threads, cell=kernel.shared_cell)
        products = Products(log, shared, threads * len(ctas))
        Machine(kernel.executable, setting, ctas, shared, products).run()
    return Launch(
        kernel=kernel.program.name,
        target=kernel.program.target,
        grid=grid,
        executed=executed,
        threads=threads,
        shared_bytes=shared_bytes,
        faults=log.faults(),
        counts=counters.counts(kernel.program.instructions, kernel.executable.blocks, memory.tensors()),
        seconds=time.perf_counter() - started,
    )


def _batches(
    grid: tuple[int, int, int], threads: int, options: EmulationOptions
) -> Iterator[tuple[NDArray[np.intp], bool]]:
    """Numbers of the CTAs that execute together, and whether the launch may end before them."""
    order = np.arange(int(np.prod(grid, dtype=np.int64)))
    at_once = max(1, options.batch_threads // threads)
    group = len(order)
    if options.most_instructions is not None:
        # A grid of one row has CTAs that need not meet.
        row = 1 if grid[1] * grid[2] == 1 else grid[0]
        order = order.reshape(-1, row)[_spread(len(order) // row)].reshape(-1)
        group = max(1, at_once // row) * row
    elif options.shuffle is not None:
        np.random.default_rng(options.shuffle).shuffle(order)
    for start in range(0, len(order), group):
        for first in range(start, min(start + group, len(order)), at_once):
            yield order[first : min(first + at_once, start + group)], first == start


def _spread(count: int) -> list[int]:
    """Numbers below `count`: the middle, then the middles of both halves, and so on.

    The ends, which may be ragged and would weigh too much in a small sample, come late.
    """
    found: dict[int, None] = {}
    parts = 2
    while len(found) < count:
        found |= dict.fromkeys(place * count // parts for place in range(1, parts, 2))
        parts *= 2
        if parts > 2 * count:
            found |= dict.fromkeys(range(count))
    return list(found)


def _parameters(
    kernel: DecodedKernel, memory: GlobalMemory, arguments: Sequence[tuple[str, Argument]]
) -> dict[str, Bits]:
    """Parameters by name, as registers of one element; scratch pointers at the end are null."""
    declared = kernel.program.parameters
    if not 0 <= len(declared) - len(arguments) <= _MOST_SCRATCH:
        names = ", ".join(name for name, _ in arguments)
        raise EmulationError(f"{kernel.program.name} has {len(declared)} parameters; it got {len(arguments)}: {names}")
    values = [value for _, value in arguments] + [None] * (len(declared) - len(arguments))
    return {
        name: _parameter(memory.address(value) if isinstance(value, torch.Tensor) else value, kind)
        for (name, kind), value in zip(declared, values, strict=True)
    }


def _parameter(value: Any, kind: str) -> Bits:
    if isinstance(value, float):
        return to_bits(np.array([value]), kind.replace("u", "f").replace("b", "f"))
    bits = 8 * np.dtype(storage(kind)).itemsize
    return np.array([int(value or 0) & ((1 << bits) - 1)], storage(kind))
