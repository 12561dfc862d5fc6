"""Asynchronous products of a batch (`wgmma`) between their issue and their wait.

The emulator computes a product when it is issued. What a GPU leaves open until the wait is watched: its accumulators
may not be touched, its left operand's registers not written, its operands in shared memory not overwritten. And before
it: no register of it may have changed since the last `wgmma.fence`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.faults import FaultKind, FaultLog
from lords_bench.emulator.parse import Instruction
from lords_bench.emulator.shared_memory import Ints, SharedMemory
from lords_bench.emulator.steps import Mask, Step, Threads

GROUP_THREADS = 128


@dataclass(slots=True)
class _Product:
    """One instruction's products that are not done, by warp group."""

    instruction: Instruction
    accumulators: frozenset[int]
    left: frozenset[int]
    groups: NDArray[np.intp]
    numbers: NDArray[np.int64]
    cells: list[list[Ints]]


class Products:
    """Products of one batch.

    Args:
        log: where faults go.
        shared: where operands lie.
        threads: in the batch.
    """

    def __init__(self, log: FaultLog, shared: SharedMemory, threads: int) -> None:
        self._log, self._shared, self._threads = log, shared, threads
        self._committed = np.zeros(-(-threads // GROUP_THREADS), np.int64)
        self._flying: list[_Product] = []
        self._fenced = np.zeros(threads, np.bool_)
        self._changed: dict[int, NDArray[np.bool_]] = {}

    def watch(self, step: Step, mask: Mask) -> None:
        """An instruction is about to touch registers of products."""
        here = np.ones(self._threads, np.bool_) if mask is None else mask
        for number in step.writes & step.watched:
            before = self._changed.get(number)
            self._changed[number] = here.copy() if before is None else before | here
        for product in self._flying:
            open_to_reads = step.reads & product.accumulators
            touched = open_to_reads or step.writes & (product.accumulators | product.left)
            if touched:
                threads = self._threads_of(product.groups)
                self._log.report(FaultKind.PRODUCT_REGISTER, step.instruction, here[threads])

    def start(
        self, instruction: Instruction, accumulators: frozenset[int], left: frozenset[int], threads: Threads,
        cells: list[list[Ints]],
    ) -> None:  # fmt: skip
        """Warp groups issue a product.

        Args:
            instruction: the product.
            accumulators: its result's registers.
            left: its left operand's, if it lies in registers.
            threads: of whole warp groups.
            cells: of shared memory that are busy until its wait, by group.
        """
        unfenced = ~self._fenced[threads]
        for number in accumulators | left:
            changed = self._changed.get(number)
            if changed is not None:
                unfenced = unfenced | changed[threads]
        self._log.report(FaultKind.PRODUCT_FENCE, instruction, unfenced)
        groups = threads[::GROUP_THREADS] // GROUP_THREADS
        self._flying.append(_Product(instruction, accumulators, left, groups, self._committed[groups], cells))

    def fence(self, threads: Threads) -> None:
        """`wgmma.fence`: registers that changed may be used by products."""
        self._fenced[threads] = True
        for changed in self._changed.values():
            changed[threads] = False

    def commit(self, threads: Threads) -> None:
        """Close the groups of products that these threads have begun."""
        self._committed[np.unique(threads // GROUP_THREADS)] += 1

    def wait(self, threads: Threads, left: int) -> None:
        """Products are done, but for the `left` latest groups of each warp group."""
        waiting = np.isin(np.arange(len(self._committed)), threads // GROUP_THREADS)
        limit = self._committed - left
        kept = []
        for product in self._flying:
            done = waiting[product.groups] & (product.numbers < limit[product.groups])
            for place in np.flatnonzero(done):
                for cells in product.cells[place]:
                    self._shared.release_operand(cells)
            if not done.all():
                kept.append(
                    _Product(
                        product.instruction, product.accumulators, product.left, product.groups[~done],
                        product.numbers[~done], [product.cells[place] for place in np.flatnonzero(~done)],
                    )
                )  # fmt: skip
        self._flying = kept

    def left(self) -> tuple[Instruction, ...]:
        """What nobody has waited for."""
        return tuple(product.instruction for product in self._flying)

    def _threads_of(self, groups: NDArray[np.intp]) -> Threads:
        found: Threads = (groups[:, None] * GROUP_THREADS + np.arange(GROUP_THREADS)).ravel()
        return found
