"""Threads of a batch of CTAs in lock step: registers, masks, branches and barriers.

Threads at the same instruction execute together. Where they part, those at the earlier instruction go first, so that
they meet again. A barrier holds a thread until every thread of its CTA that has not returned is at one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.counters import WARP, Counters
from lords_bench.emulator.faults import Bits, FaultKind, FaultLog
from lords_bench.emulator.formats import U32
from lords_bench.emulator.global_memory import GlobalMemory
from lords_bench.emulator.parse import Instruction
from lords_bench.emulator.products import Products
from lords_bench.emulator.shared_memory import SharedMemory
from lords_bench.emulator.steps import Executable, Mask, Step, Threads
from lords_bench.errors import EmulationError

# A kernel that runs longer than this many basic blocks waits for something that will not come.
MOST_BLOCKS = 2_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Setting:
    """What the CTAs of a launch share.

    Attributes:
        memory: global memory.
        log: where faults go.
        counters: what was executed.
        parameters: by name, registers of one element.
        grid: CTAs in three dimensions.
        truncate: whether tensor cores cut float32 sums off instead of rounding them.
    """

    memory: GlobalMemory
    log: FaultLog
    counters: Counters
    parameters: Mapping[str, Bits]
    grid: tuple[int, int, int]
    truncate: bool


class Machine:
    """One batch of CTAs.

    Attributes:
        threads: in the batch.
        everyone: their numbers.
        cta_of: number in the grid of each thread's CTA.
        shared: the CTAs' shared memory.
        products: their asynchronous products.
        registers: by number; None until written.
    """

    def __init__(
        self, executable: Executable, setting: Setting, ctas: NDArray[np.intp], shared: SharedMemory,
        products: Products,
    ) -> None:  # fmt: skip
        self._executable, self.setting = executable, setting
        self.memory, self.log, self.counters = setting.memory, setting.log, setting.counters
        self._ctas, self._per_cta = ctas, executable.threads
        self.threads = self._per_cta * len(ctas)
        self.everyone: Threads = np.arange(self.threads)
        self._place = self.everyone // self._per_cta
        self.cta_of: NDArray[np.intp] = ctas[self._place]
        self.shared, self.products = shared, products
        self.registers: list[Any] = [None] * len(executable.registers)
        for number, value in executable.constants.items():
            self.registers[number] = value
        for name, number in executable.specials.items():
            self.registers[number] = self._special(name).astype(U32)
        # Step to the threads that are there; those at a barrier; those that are here, and where they go next.
        self._running: dict[int, Mask] = {0: None}
        self._waiting: dict[int, NDArray[np.bool_]] = {}
        self._here: Mask = None
        self._next = 0
        self._barrier: Instruction | None = None

    def _special(self, name: str) -> Bits:
        """A special register, by thread or of one element.

        Raises:
            EmulationError: what the machine does not know, such as clocks.
        """
        thread, grid = self.everyone % self._per_cta, self.setting.grid
        axis = "xyz".find(name[-1])
        kind = name.partition(".")[0]
        if kind == "%ctaid":
            below = int(np.prod(grid[:axis], dtype=np.int64))
            return self.cta_of // below % grid[axis]
        if kind == "%nctaid":
            return np.array([grid[axis]])
        if kind in ("%tid", "%ntid") and axis > 0:
            return np.array([kind == "%ntid"])
        known = {
            "%tid": thread,
            "%ntid": np.array([self._per_cta]),
            "%laneid": thread % WARP,
            "%warpid": thread // WARP,
        }
        if kind not in known:
            raise EmulationError(f"special register {name} is not emulated; a kernel that reads it has no fixed result")
        return known[kind]

    # Running.

    def run(self) -> None:
        """Run every thread to its end.

        Raises:
            EmulationError: a register that was never written is read, the program runs past its end, or does not end.
        """
        executable = self._executable
        blocks_left = MOST_BLOCKS
        while self._running or self._waiting:
            if not self._running:
                self._release()
            first = min(self._running)
            mask = self._running.pop(first)
            end = executable.blocks.get(first)
            blocks_left -= 1
            if end is None or blocks_left < 0:
                why = "runs past its last instruction" if end is None else f"has not ended after {MOST_BLOCKS} blocks"
                raise EmulationError(f"the kernel {why}; it may wait for a CTA that comes later")
            self._here, self._next = mask, end
            self.counters.block(first, end - first, mask, self.threads)
            for step in executable.steps[first:end]:
                if step.watched:
                    self.products.watch(step, mask)
                try:
                    step.run(self, mask)
                except (TypeError, AttributeError) as error:
                    self._explain(step, error)
                    raise
            if self._here is None or self._here.any():
                self._go(self._next, self._here)
        self._finish()

    def _explain(self, step: Step, error: Exception) -> None:
        """Turn what numpy says of a register without a value into what it means."""
        unset = [self._executable.registers[number] for number in step.reads if self.registers[number] is None]
        if unset:
            raise EmulationError(f"{', '.join(unset)} was never written, and is read by {step.instruction}") from error

    def _go(self, place: int, mask: Mask) -> None:
        if place in self._running and mask is not None:
            other = self._running[place]
            mask = None if other is None else other | mask
        self._running[place] = None if mask is None or mask.all() else mask

    def jump(self, place: int, mask: Mask) -> None:
        """The threads of `mask` go on at `place`, the others here at the next instruction."""
        if mask is None:
            self._next = place
            return
        self._go(place, mask)
        self._here = ~mask if self._here is None else self._here & ~mask

    def leave(self, mask: Mask) -> None:
        """The threads of `mask` return."""
        if mask is None:
            mask = np.ones(self.threads, np.bool_)
        self._here = ~mask if self._here is None else self._here & ~mask

    def arrive(self, mask: Mask, instruction: Instruction) -> None:
        """The threads of `mask` wait at a barrier of their CTA."""
        if mask is None:
            # All threads of the batch are here, and none has returned.
            self._pass_barrier(np.arange(len(self._ctas)))
            return
        waiting = self._waiting.get(self._next)
        self._waiting[self._next] = mask if waiting is None else mask | waiting
        self._here = ~mask if self._here is None else self._here & ~mask
        self._barrier = instruction

    def _release(self) -> None:
        """Every thread that has not returned waits: at one barrier per CTA, or something is wrong."""
        at_barriers = np.stack([mask.reshape(-1, self._per_cta).any(1) for mask in self._waiting.values()])
        count = at_barriers.sum(0)
        assert self._barrier is not None
        self.log.report(FaultKind.BARRIERS, self._barrier, count > 1)
        self._pass_barrier(np.flatnonzero(count))
        for place, mask in self._waiting.items():
            self._go(place, mask)
        self._waiting = {}

    def _pass_barrier(self, places: NDArray[np.intp]) -> None:
        self.shared.pass_barrier(places)
        self.memory.barrier(self._ctas[places])

    def warp_barrier(self, mask: Mask, instruction: Instruction) -> None:
        """Lanes of whole warps meet; where a warp is a CTA, that is a barrier of the CTA."""
        self.require_warps(mask, instruction)
        warps = self.who(mask)[::WARP] // WARP
        self.shared.pass_warp_barrier(warps)
        if self._per_cta == WARP:
            self._pass_barrier(warps)

    def _finish(self) -> None:
        for instruction in self.shared.copies_left():
            self.log.add(FaultKind.COPY_LEFT, instruction)
        for instruction in self.products.left():
            self.log.add(FaultKind.PRODUCT_LEFT, instruction)

    # Registers.

    def put(self, number: int, value: Bits, mask: Mask) -> None:
        """Write a register of every thread, or of one element, where the mask holds."""
        if mask is not None:
            before = self.registers[number]
            value = np.where(mask, value, value.dtype.type(0) if before is None else before)
        self.registers[number] = value

    def put_lanes(self, number: int, values: Bits, who: Threads, mask: Mask) -> None:
        """Write a register of the threads `who`, which are those of the mask."""
        if mask is not None:
            before = self.registers[number]
            full = (
                np.zeros(self.threads, values.dtype)
                if before is None
                else np.array(np.broadcast_to(before, self.threads))
            )
            full[who] = values
            values = full
        self.registers[number] = values

    def lanes(self, number: int, mask: Mask) -> Bits:
        """A register's elements of the threads of the mask."""
        full = np.broadcast_to(self.registers[number], self.threads)
        return full if mask is None else full[mask]

    def who(self, mask: Mask) -> Threads:
        """Numbers of the threads of the mask."""
        return self.everyone if mask is None else np.flatnonzero(mask)

    def times(self, who: Threads) -> NDArray[np.int64]:
        """Barriers that the CTAs of these threads have passed."""
        return self.shared.times[self._place[who]]

    def addresses(self, base: int, offset: int, mask: Mask) -> Bits:
        """A register plus a constant, of the threads of the mask."""
        found = self.lanes(base, mask)
        return found + found.dtype.type(offset & ((1 << 8 * found.itemsize) - 1)) if offset else found

    def count_global(self, instruction: Instruction, addresses: Bits, who: Threads, width: int) -> None:
        """These threads access `width` bytes of global memory each."""
        self.counters.global_access(instruction, addresses, who, width, self.memory.name_at(addresses))

    def require_warps(self, mask: Mask, instruction: Instruction) -> None:
        """An instruction of whole warps is executed by whole warps.

        Raises:
            EmulationError: a warp has parted.
        """
        if mask is not None:
            warps = mask.reshape(-1, WARP)
            if (warps.any(1) & ~warps.all(1)).any():
                raise EmulationError(f"a warp has parted, but all its lanes are needed by {instruction}")
