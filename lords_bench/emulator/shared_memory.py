"""Shared memory of a batch of CTAs, and the order of what their threads do to it.

Each cell (the bytes of the narrowest access of the program) knows who wrote it last, which warp read it last, and when.
Time is the number of barriers that the CTA has passed, and within a warp also the barriers of the warp. Two accesses of
different warps to one cell, one of them a write, need a barrier of the CTA between them.

Data of asynchronous copies arrives when the copying thread waits for it, and its place is NaN until then. Operands of
asynchronous products are busy until the product's wait, and must have been handed over by a proxy fence.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.faults import Bits, FaultKind, FaultLog
from lords_bench.emulator.formats import FIELDS
from lords_bench.emulator.parse import Instruction

# Where the window of shared memory begins; swizzles need a multiple of 1024.
SHARED_BASE = 1024
_POISON = 0xFF  # every float of these bytes is a NaN
_SEVERAL = 0xFFFFFFFF
_STORED, _COPIED = 1, 2
_WARP = 32
_ALIGNMENT = 128

Ints = NDArray[np.int64]
Threads = NDArray[np.intp]


@dataclass(slots=True)
class _Copy:
    """Asynchronous copies of one instruction that have not arrived, by thread."""

    threads: Threads
    places: Ints
    data: NDArray[np.uint8]
    groups: Ints
    instruction: Instruction


class SharedMemory:
    """Shared memory of `ctas` CTAs side by side.

    Args:
        log: where faults go.
        ctas: how many.
        size: bytes of each that it may use.
        threads: of each.
        cell: bytes of the narrowest access.

    Attributes:
        times: barriers passed, by CTA, and one.
    """

    def __init__(self, log: FaultLog, *, ctas: int, size: int, threads: int, cell: int) -> None:
        self._log, self._size, self._threads, self.cell = log, size, threads, cell
        self._stride = -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
        total = ctas * self._stride
        self._bytes = np.full(total, _POISON, np.uint8)
        self.views: dict[int, NDArray[Any]] = {width: self._bytes.view(kind) for width, kind in FIELDS.items()}
        cells = total // cell
        self._written_at = np.zeros(cells, np.int64)  # time; 0: never
        self._writer = np.zeros(cells, np.int32)  # thread of the batch
        self._written_at_warp = np.zeros(cells, np.int32)
        self._read = np.zeros(cells, np.int64)  # time · 2^32 + warp of the batch, or _SEVERAL
        self._arriving = np.zeros(cells, np.int16)
        self._busy = np.zeros(cells, np.int16)
        self._not_handed_over = np.zeros(cells, np.uint8)  # since the last proxy fence: _STORED or _COPIED
        self.times = np.ones(ctas, np.int64)
        self._warp_times = np.zeros(ctas * threads // _WARP, np.int32)
        self._copies: list[_Copy] = []
        self._groups = np.zeros(ctas * threads, np.int64)

    # Places of addresses.

    def places(self, addresses: Bits, size: int, threads: Threads, instruction: Instruction) -> tuple[Ints, Any]:
        """Offsets into the batch's memory, and which accesses are good (a slice for all); others are reported."""
        offsets = addresses.astype(np.int64) - SHARED_BASE
        inside = (offsets >= 0) & (offsets <= self._size - size)
        crooked = offsets % size != 0
        good = inside & ~crooked
        batch = offsets + threads // self._threads * self._stride
        if good.all():
            return batch, slice(None)
        self._log.report(FaultKind.SHARED_BOUNDS, instruction, ~inside, lambda i: f"byte {offsets[i]} of {self._size}")
        self._log.report(FaultKind.SHARED_ALIGNMENT, instruction, crooked, lambda i: f"byte {offsets[i]}")
        where = np.flatnonzero(good)
        return batch[where], where

    def _cells(self, places: Ints, size: int) -> Ints:
        return places[:, None] // self.cell + np.arange(max(1, size // self.cell))

    # Order of accesses.

    def note_read(self, places: Ints, size: int, threads: Threads, instruction: Instruction) -> None:
        """Threads read `size` bytes each: all of them must be written, arrived, and ordered after their writers."""
        cells, now, warps = self._cells(places, size), self.times[threads // self._threads], threads // _WARP
        written = self._written_at[cells]
        if not written.all():
            self._log.report(FaultKind.SHARED_UNWRITTEN, instruction, (written == 0).any(1), self._byte_of(places))
        if self._copies:
            self._log.report(
                FaultKind.COPY_READ, instruction, (self._arriving[cells] > 0).any(1), self._byte_of(places)
            )
        recent = written == now[:, None]
        if recent.any():
            self._check_recent_write(cells, recent, threads, instruction)
        stamp = np.broadcast_to(((now << 32) | warps)[:, None], cells.shape)
        before = self._read[cells]
        self._read[cells] = stamp
        # Another warp read it since the barrier, or reads it by this very instruction.
        several = ((before >> 32 == now[:, None]) & (before != stamp)) | (self._read[cells] != stamp)
        if several.any():
            self._read[cells[several]] = stamp[several] | _SEVERAL

    def _check_recent_write(
        self, cells: Ints, recent: NDArray[np.bool_], threads: Threads, instruction: Instruction
    ) -> None:
        writers = self._writer[cells]
        readers = threads[:, None]
        other_warp = recent & (writers // _WARP != readers // _WARP)

        def who(access: int) -> str:
            return f"thread {threads[access] % self._threads}, written by {writers[access][0] % self._threads}"

        self._log.report(FaultKind.READ_AFTER_WRITE, instruction, other_warp.any(1), who)
        other_lane = recent & ~other_warp & (writers != readers)
        other_lane &= self._written_at_warp[cells] == self._warp_times[threads // _WARP][:, None]
        self._log.report(FaultKind.LANES, instruction, other_lane.any(1), who)

    def note_write(
        self, places: Ints, size: int, threads: Threads, instruction: Instruction,
        differing: NDArray[np.bool_] | None = None,
    ) -> None:  # fmt: skip
        """Threads write `size` bytes each; `differing` says which of them change what stands there."""
        cells, now, warps = self._cells(places, size), self.times[threads // self._threads], threads // _WARP
        read = self._read[cells]
        racing = (read >> 32 == now[:, None]) & (read & _SEVERAL != warps[:, None])
        self._log.report(FaultKind.WRITE_AFTER_READ, instruction, racing.any(1), self._byte_of(places))
        if self._copies:
            arriving = self._arriving[cells] > 0
            self._log.report(FaultKind.COPY_OVERWRITTEN, instruction, arriving.any(1), self._byte_of(places))
        busy = self._busy[cells] > 0
        self._log.report(FaultKind.PRODUCT_OPERAND, instruction, busy.any(1), self._byte_of(places))
        recent = (self._written_at[cells] == now[:, None]) & (self._writer[cells] // _WARP != warps[:, None])
        if differing is not None:
            recent &= differing[:, None]
        self._log.report(FaultKind.WRITE_AFTER_WRITE, instruction, recent.any(1), self._byte_of(places))
        self._stamp(cells, threads)
        self._not_handed_over[cells] = _STORED

    def _stamp(self, cells: Ints, threads: Threads) -> None:
        self._writer[cells] = threads[:, None]
        self._written_at[cells] = self.times[threads // self._threads][:, None]
        self._written_at_warp[cells] = self._warp_times[threads // _WARP][:, None]

    def _byte_of(self, places: Ints) -> Any:
        return lambda access: f"byte {places[access] % self._stride}"

    def pass_barrier(self, ctas: NDArray[np.intp]) -> None:
        """All threads of these CTAs of the batch have met."""
        self.times[ctas] += 1

    def pass_warp_barrier(self, warps: NDArray[np.intp]) -> None:
        """All lanes of these warps of the batch have met."""
        self._warp_times[warps] += 1

    # Data.

    def load(self, addresses: Bits, width: int, count: int, threads: Threads, instruction: Instruction) -> NDArray[Any]:
        """[count, threads] fields of `width` bytes; NaN bytes where nothing may be read."""
        places, where = self.places(addresses, width * count, threads, instruction)
        self.note_read(places, width * count, threads[where], instruction)
        found = np.full((count, len(addresses)), -1 & ((1 << 8 * width) - 1), FIELDS[width])
        view, first = self.views[width], places // width
        for field in range(count):
            found[field, where] = view[first + field]
        return found

    def store(
        self, addresses: Bits, values: NDArray[Any], width: int, threads: Threads, instruction: Instruction
    ) -> None:
        """Write [count, threads] fields of `width` bytes."""
        count = len(values)
        places, where = self.places(addresses, width * count, threads, instruction)
        view, first, given = self.views[width], places // width, values[:, where]
        differing = np.zeros(len(places), np.bool_)
        for field in range(count):
            differing |= view[first + field] != given[field]
        self.note_write(places, width * count, threads[where], instruction, differing)
        for field in range(count):
            view[first + field] = given[field]
        # Warps that execute together may write to one place by one instruction.
        lost = np.zeros(len(places), np.bool_)
        for field in range(count):
            lost |= view[first + field] != given[field]
        if lost.any():
            winners = self._writer[self._cells(places, width * count)]
            lost &= (winners // _WARP != threads[where][:, None] // _WARP).any(1)
            self._log.report(FaultKind.WRITE_AFTER_WRITE, instruction, lost, self._byte_of(places))

    def load_rows(self, addresses: Bits, threads: Threads, instruction: Instruction) -> NDArray[np.uint16]:
        """[rows, 8] 16-bit elements, read by the warps of `threads`."""
        fields = self.load(addresses, 8, 2, threads, instruction)
        return np.ascontiguousarray(fields.T).view(np.uint16)

    def store_rows(self, addresses: Bits, rows: NDArray[np.uint16], threads: Threads, instruction: Instruction) -> None:
        """Write [rows, 8] 16-bit elements."""
        self.store(addresses, np.ascontiguousarray(rows).view(np.uint64).T, 8, threads, instruction)

    # Asynchronous copies.

    def copy(self, addresses: Bits, data: NDArray[np.uint8], threads: Threads, instruction: Instruction) -> None:
        """Begin to copy [threads, bytes], which arrive when each thread waits for the group that it commits next."""
        size = data.shape[1]
        places, where = self.places(addresses, size, threads, instruction)
        who = threads[where]
        self.note_write(places, size, who, instruction)
        np.add.at(self._arriving, self._cells(places, size), 1)
        self._bytes[places[:, None] + np.arange(size)] = _POISON
        self._copies.append(_Copy(who, places, data[where], self._groups[who], instruction))

    def commit(self, threads: Threads) -> None:
        """Close the groups of copies that these threads have begun."""
        self._groups[threads] += 1

    def wait(self, threads: Threads, left: int) -> None:
        """These threads' copies arrive, but for their `left` latest groups; -1 takes those of no group as well."""
        waiting = np.zeros(len(self._groups), np.bool_)
        waiting[threads] = True
        limit = self._groups - left
        kept = []
        for copy in self._copies:
            done = waiting[copy.threads] & (copy.groups < limit[copy.threads])
            if done.any():
                places, size = copy.places[done], copy.data.shape[1]
                cells = self._cells(places, size)
                np.subtract.at(self._arriving, cells, 1)
                self._bytes[places[:, None] + np.arange(size)] = copy.data[done]
                # The write happens at some time up to now.
                self._stamp(cells, copy.threads[done])
                self._not_handed_over[cells] = _COPIED
            rest = ~done
            if rest.any():
                kept.append(
                    _Copy(copy.threads[rest], copy.places[rest], copy.data[rest], copy.groups[rest], copy.instruction)
                )
        self._copies = kept

    def copies_left(self) -> tuple[Instruction, ...]:
        """What nobody has waited for."""
        return tuple(copy.instruction for copy in self._copies)

    # Operands of asynchronous products.

    def product_operand(
        self, addresses: Ints, width: int, threads: Threads, instruction: Instruction
    ) -> tuple[NDArray[Any], Ints]:
        """Fields of `width` bytes that the warps of a group read together, and the cells that are busy from now on.

        Args:
            addresses: [elements], of one CTA.
            width: bytes of an element.
            threads: of the group.
            instruction: the product.
        """
        group = np.full(addresses.shape, threads[0])
        places, where = self.places(addresses, width, group, instruction)
        cells = np.unique(self._cells(places, max(width, self.cell)))
        cta = int(threads[0]) // self._threads

        def example(cell: int) -> str:
            return f"byte {cells[cell] * self.cell % self._stride}"

        self._log.report(FaultKind.SHARED_UNWRITTEN, instruction, self._written_at[cells] == 0, example)
        self._log.report(FaultKind.COPY_READ, instruction, self._arriving[cells] > 0, example)
        # Whoever wrote it since the barrier, three of the four warps have not met it.
        recent = self._written_at[cells] == self.times[cta]
        self._log.report(FaultKind.READ_AFTER_WRITE, instruction, recent, example)
        left = self._not_handed_over[cells]
        self._log.report(FaultKind.PROXY_FENCE, instruction, left == _STORED, example)
        self._log.report(FaultKind.COPY_PROXY_FENCE, instruction, left == _COPIED, example)
        self._read[cells] = (self.times[cta] << 32) | _SEVERAL
        self._busy[cells] += 1
        found = np.full(len(addresses), -1 & ((1 << 8 * width) - 1), FIELDS[width])
        found[where] = self.views[width][places // width]
        return found, cells

    def release_operand(self, cells: Ints) -> None:
        """The product that kept these cells busy is done."""
        self._busy[cells] -= 1

    def hand_over(self, threads: Threads) -> None:
        """A proxy fence of these threads: what their CTAs wrote may be read by asynchronous products."""
        for cta in np.unique(threads // self._threads).tolist():
            first = cta * self._stride // self.cell
            self._not_handed_over[first : first + self._stride // self.cell] = 0
