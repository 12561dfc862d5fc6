"""`Candidate`: one thing to time, and how to find out whether it computes what it should."""

from collections.abc import Callable
from dataclasses import dataclass

from lords_bench.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One thing to time.

    Attributes:
        name: unique within a comparison.
        launch: enqueues one launch on buffer set `i` of 0…slots − 1, and returns its output. It must not wait for the
            device, and must leave the buffer set as it found it, outputs aside.
        slots: how many buffer sets `launch` rotates over; see `timing.device.rotation_slots`. Sets of different slots
            share no memory. With one slot a cold sample is a single launch.
        check: runs the candidate on fresh random inputs and says why the result is wrong; None = it is right. See
            `timing.check.checker`.
        launch_on: layout number, from 1, to a `launch` whose buffers are allocated anew, apart from those of all other
            layouts; asked for once each. None where a candidate has its buffers once, such as a model under training:
            then nobody sees what stays with them, and no small difference is called one.
        layout_bytes: memory of one layout, all its buffer sets and results; None = unknown, taken to be small.
        bytes_moved: bytes that a cold launch cannot avoid moving between device memory and chip: a lower bound, in
            which what could stay in cache (a scratch matrix written and read again) does not count. None = unknown.
        flops: operations of one launch, a multiply-add being two; None = unknown.

    Raises:
        UsageError: no slots, or a negative cost.
    """

    name: str
    launch: Callable[[int], object]
    check: Callable[[], str | None]
    slots: int = 1
    launch_on: Callable[[int], Callable[[int], object]] | None = None
    layout_bytes: int | None = None
    bytes_moved: int | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise UsageError(f"candidate {self.name!r} has {self.slots} slots; give at least 1 buffer set")
        costs = (("layout_bytes", self.layout_bytes), ("bytes_moved", self.bytes_moved), ("flops", self.flops))
        for what, value in costs:
            if value is not None and value < 0:
                raise UsageError(f"candidate {self.name!r} has {what} {value}; give None where it is unknown")
