"""Global memory of a launch: its tensors, each alone in an address range of its own, used in place.

A tensor's address is `(number + 1½) · 2^40` plus its real place modulo 256, so that no offset from one tensor reaches
another: whatever lies outside of a tensor is out of bounds, and reads as NaN. Nothing is copied, so a tensor may be
larger than the machine's memory where most of it is never touched.

Who wrote what, and when, is kept per tensor once a kernel stores into it. Time is the number of barriers that a CTA has
passed. What it wrote before barrier t is published by a release of one of its threads after t, at an address; another
CTA sees it after an acquire of one of its threads at that address and a barrier of its own.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lords_bench.emulator.counters import SECTOR_BYTES, TensorCount
from lords_bench.emulator.faults import Bits, FaultKind, FaultLog
from lords_bench.emulator.formats import FIELDS
from lords_bench.emulator.parse import Instruction

_RANGE_BITS = 40
_ALIGNMENT = 256
_TIME_BITS = 32

Index = NDArray[np.intp] | slice
Threads = NDArray[np.intp]


@dataclass(slots=True)
class _Span:
    """Bytes that overlapping tensors of one storage cover together; addresses of the process."""

    names: list[str]
    storage: torch.UntypedStorage
    start: int
    end: int


def _extent(tensor: torch.Tensor) -> int:
    """Bytes from a tensor's first element to the end of its last."""
    if tensor.numel() == 0:
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return (sum((count - 1) * step for count, step in steps) + 1) * tensor.element_size()


def _spans(tensors: Sequence[tuple[str, torch.Tensor]]) -> list[_Span]:
    """Tensors that overlap become one span, in whatever order they come."""
    spans: list[_Span] = []
    for name, tensor in tensors:
        start = tensor.data_ptr()
        found = _Span([name], tensor.untyped_storage(), start, start + _extent(tensor))
        for other in [
            span
            for span in spans
            if span.storage.data_ptr() == found.storage.data_ptr() and found.start < span.end and span.start < found.end
        ]:
            spans.remove(other)
            found = _Span(
                other.names + found.names, found.storage, min(found.start, other.start), max(found.end, other.end)
            )
        spans.append(found)
    return spans


def sparse_zeros(count: int, dtype: Any) -> NDArray[Any]:
    """An array of zeros that takes memory only where it is touched, and may be larger than all there is."""
    size = max(1, count * np.dtype(dtype).itemsize)
    # Python 3.13 has a name for Linux's flag that memory need not be there before it is touched.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype, count)


class _Region:
    """One span's bytes, and who touched them.

    Attributes:
        base: its address in the emulated memory.
        stamps: by granule: (CTA + 1) · 2^32 + time of the last write; None while nobody has written.
        read, written: by sector: whether it was.
    """

    def __init__(self, span: _Span, number: int, granule: int) -> None:
        self.name, self.start, self.size = "/".join(span.names), span.start, span.end - span.start
        self.base = (2 * number + 3 << _RANGE_BITS - 1) + self.start % _ALIGNMENT
        whole = torch.empty(0, dtype=torch.uint8).set_(span.storage).numpy()
        first = self.start - span.storage.data_ptr()
        self._bytes: NDArray[np.uint8] = whole[first : first + self.size]
        self._views: dict[int, tuple[NDArray[Any], int]] = {}
        self.granule = granule
        self.stamps: NDArray[np.int64] | None = None
        sector_count = self.size // SECTOR_BYTES + 2
        self.read, self.written = sparse_zeros(sector_count, np.bool_), sparse_zeros(sector_count, np.bool_)

    def fields(self, width: int) -> tuple[NDArray[Any], int]:
        """The bytes as aligned fields of `width` bytes, and where in the region the first one begins."""
        if width not in self._views:
            skew = -self.start % width
            count = max(0, self.size - skew) // width
            self._views[width] = (self._bytes[skew : skew + count * width].view(FIELDS[width]), skew)
        return self._views[width]

    def granules(self, offsets: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """[accesses, granules of one access]."""
        first = (offsets + self.start % self.granule) // self.granule
        return first[:, None] + np.arange(max(1, size // self.granule))

    def stamped(self) -> NDArray[np.int64]:
        """The stamps, made at the first write."""
        if self.stamps is None:
            self.stamps = sparse_zeros(self.size // self.granule + 2, np.int64)
        return self.stamps

    def sectors(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        return (offsets + self.start % SECTOR_BYTES) // SECTOR_BYTES


class _Clocks:
    """What each CTA has published, and what each has acquired; times by CTA, missing ones are 0."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, int]] = {}
        self._acquired: dict[int, dict[int, int]] = {}
        self._published: dict[int, dict[int, int]] = {}

    def sees(self, reader: int, writer: int) -> int:
        """Time of the writer up to which the reader sees its writes."""
        return self._seen.get(reader, {}).get(writer, 0)

    def release(self, address: int, cta: int, time: int) -> None:
        here = self._published.setdefault(address, {})
        _raise_to(here, self._seen.get(cta, {}))
        _raise_to(here, {cta: time})

    def acquire(self, address: int, cta: int) -> None:
        _raise_to(self._acquired.setdefault(cta, {}), self._published.get(address, {}))

    def barrier(self, ctas: NDArray[np.intp]) -> None:
        """What one thread of a CTA acquired, all of them see."""
        if self._acquired:
            for cta in ctas.tolist():
                _raise_to(self._seen.setdefault(cta, {}), self._acquired.pop(cta, {}))


def _raise_to(times: dict[int, int], others: dict[int, int]) -> None:
    for cta, time in others.items():
        times[cta] = max(times.get(cta, 0), time)


class GlobalMemory:
    """The tensors of one launch.

    Args:
        tensors: (name, tensor); those that overlap share an address range.
        log: where faults go.
        granule: bytes of the narrowest store of the program.
    """

    def __init__(self, tensors: Sequence[tuple[str, torch.Tensor]], log: FaultLog, *, granule: int) -> None:
        self._log, self._clocks = log, _Clocks()
        self._regions = [_Region(span, number, granule) for number, span in enumerate(_spans(tensors))]

    def address(self, tensor: torch.Tensor) -> int:
        """Of a tensor's first element."""
        place = tensor.data_ptr()
        # An empty tensor has no bytes and no region that it must lie in.
        held = (r for r in self._regions if r.start <= place and place + _extent(tensor) <= r.start + r.size)
        region = next(held, None)
        return 0 if region is None else region.base + place - region.start

    def tensors(self) -> tuple[TensorCount, ...]:
        """What was touched of each tensor so far."""
        return tuple(
            TensorCount(
                name=region.name,
                size_bytes=region.size,
                read_bytes=SECTOR_BYTES * int(np.count_nonzero(region.read)),
                written_bytes=SECTOR_BYTES * int(np.count_nonzero(region.written)),
            )
            for region in self._regions
        )

    def name_at(self, addresses: Bits) -> str | None:
        """Of the tensor at the first of some addresses; None where there is none."""
        number = (int(addresses[0]) >> _RANGE_BITS) - 1 if len(addresses) else -1
        return self._regions[number].name if 0 <= number < len(self._regions) else None

    def barrier(self, ctas: NDArray[np.intp]) -> None:
        """These CTAs have passed a barrier."""
        self._clocks.barrier(ctas)

    def load(
        self, addresses: Bits, width: int, count: int, ctas: NDArray[np.intp], instruction: Instruction
    ) -> NDArray[Any]:
        """[count, threads] fields of `width` bytes; NaN bytes where nothing may be read."""
        found = np.full((count, len(addresses)), -1 & ((1 << 8 * width) - 1), FIELDS[width])
        for region, where, offsets in self._parts(addresses, width * count, instruction):
            region.read[region.sectors(offsets)] = True
            if region.stamps is not None:
                self._check_order(region, offsets, width * count, ctas[where], instruction, FaultKind.GLOBAL_READ)
            view, skew = region.fields(width)
            places = (offsets - skew) // width
            for field in range(count):
                found[field, where] = view[places + field]
        return found

    def store(
        self, addresses: Bits, values: NDArray[Any], width: int, ctas: NDArray[np.intp], times: NDArray[np.int64],
        instruction: Instruction,
    ) -> None:  # fmt: skip
        """Write [count, threads] fields of `width` bytes."""
        count = len(values)
        for region, where, offsets in self._parts(addresses, width * count, instruction):
            region.written[region.sectors(offsets)] = True
            view, skew = region.fields(width)
            places, given = (offsets - skew) // width, values[:, where]
            stamps = region.stamped()
            differing = np.zeros(len(offsets), np.bool_)
            for field in range(count):
                differing |= view[places + field] != given[field]
            # Writing again what stands there is no matter.
            self._check_order(
                region, offsets, width * count, ctas[where], instruction, FaultKind.GLOBAL_WRITE, differing
            )
            for field in range(count):
                view[places + field] = given[field]
            stamp = (ctas[where].astype(np.int64) + 1) << _TIME_BITS | times[where]
            granules = region.granules(offsets, width * count)
            stamps[granules] = stamp[:, None]
            # CTAs that execute together may write to one place by one instruction.
            lost = np.zeros(len(offsets), np.bool_)
            for field in range(count):
                lost |= view[places + field] != given[field]
            if lost.any():
                lost &= (stamps[granules] >> _TIME_BITS != stamp[:, None] >> _TIME_BITS).any(1)
                self._log.report(FaultKind.GLOBAL_WRITE, instruction, lost)

    def update(
        self, addresses: Bits, width: int, count: int, ctas: NDArray[np.intp], times: NDArray[np.int64],
        instruction: Instruction, *, synchronises: bool,
    ) -> "Iterator[tuple[Index, NDArray[Any], NDArray[np.int64]]]":  # fmt: skip
        """Parts of an atomic access: which threads, the fields of `width` bytes that they lie in, and their places.

        An atomic that releases comes before whatever follows an acquire of it; a relaxed one is a write of its time.
        """
        for region, where, offsets in self._parts(addresses, width * count, instruction):
            region.read[region.sectors(offsets)] = True
            region.written[region.sectors(offsets)] = True
            stamp = (ctas[where].astype(np.int64) + 1) << _TIME_BITS | (times[where] - synchronises)
            region.stamped()[region.granules(offsets, width * count)] = stamp[:, None]
            view, skew = region.fields(width)
            yield where, view, (offsets - skew) // width

    def synchronise(self, address: int, cta: int, time: int, *, acquire: bool, release: bool) -> None:
        """One thread's atomic at `address` publishes what its CTA wrote, and takes what others published there."""
        if acquire:
            self._clocks.acquire(address, cta)
        if release:
            self._clocks.release(address, cta, time)

    def _parts(
        self, addresses: Bits, size: int, instruction: Instruction
    ) -> Iterator[tuple[_Region, Index, NDArray[np.int64]]]:
        """By region: it, which accesses lie in it, and their offsets. Others are reported."""
        if not len(addresses):
            return
        wide = addresses.astype(np.int64)
        crooked = wide % size != 0
        if crooked.any():
            self._log.report(FaultKind.GLOBAL_ALIGNMENT, instruction, crooked, lambda i: f"address {wide[i]:#x}")
        numbers = (wide >> _RANGE_BITS) - 1
        first = int(numbers[0])
        candidates = [first] if (numbers == first).all() else np.unique(numbers).tolist()
        for number in candidates:
            mine = numbers == number
            if not 0 <= number < len(self._regions):
                self._log.report(FaultKind.GLOBAL_BOUNDS, instruction, mine, lambda i: f"address {wide[i]:#x}")
                continue
            region = self._regions[number]
            offsets = wide - region.base
            inside = (offsets >= 0) & (offsets <= region.size - size)
            outside = mine & ~inside
            if outside.any():
                example = f"byte {offsets[np.argmax(outside)]} of the {region.size} of {region.name}"
                self._log.add(FaultKind.GLOBAL_BOUNDS, instruction, int(np.count_nonzero(outside)), example)
            good = mine & inside & ~crooked
            if good.all():
                yield region, slice(None), offsets
            elif good.any():
                where = np.flatnonzero(good)
                yield region, where, offsets[where]

    def _check_order(
        self, region: _Region, offsets: NDArray[np.int64], size: int, ctas: NDArray[np.intp],
        instruction: Instruction, kind: FaultKind, matters: NDArray[np.bool_] | None = None,
    ) -> None:  # fmt: skip
        """Report accesses to what another CTA wrote, unless it published that and this CTA acquired it."""
        stamps = region.stamped()[region.granules(offsets, size)]
        writers, times = (stamps >> _TIME_BITS) - 1, stamps & ((1 << _TIME_BITS) - 1)
        readers = np.broadcast_to(ctas[:, None], writers.shape)
        foreign = (writers >= 0) & (writers != readers)
        if matters is not None:
            foreign &= matters[:, None]
        if not foreign.any():
            return
        pairs, place = np.unique(np.stack([readers[foreign], writers[foreign]], 1), axis=0, return_inverse=True)
        seen = np.array([self._clocks.sees(reader, writer) for reader, writer in pairs.tolist()])
        unseen = np.zeros(foreign.shape, np.bool_)
        unseen[foreign] = times[foreign] >= seen[place.reshape(-1)]
        self._log.report(
            kind, instruction, unseen.any(1),
            lambda i: f"CTA {ctas[i]}, written by CTA {writers[i][unseen[i]][0]}: byte {offsets[i]} of {region.name}",
        )  # fmt: skip
