"""What the protocol asks of a device. `cuda.py` and `cpu.py` measure, `fake.py` makes its numbers up on request.

A device opens a session for one regime; the session prepares candidates (numbered in the order they came), then gives
rounds of samples. Everything that decides about samples stands in `protocol.py`, once for all devices.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Protocol

from lords_bench.records.measurement import Peaks, Regime
from lords_bench.records.status import Status
from lords_bench.timing.candidate import Candidate

# Rotating over this many times the cache leaves nothing of a buffer set when its turn comes again.
ROTATION_FACTOR = 5
MAX_SLOTS = 256


class Sample(NamedTuple):
    """Time of one launch in ns and the clock during it in MHz, None where that is unknown."""

    ns: float
    clock_mhz: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Border:
    """State of the device between two batches of rounds; counters count up, unknown is None.

    Attributes:
        at_ns: when it was looked at, on a clock that only runs forward.
        violation_ns: time for which heat or a board limit has held the clock down, ever.
        power_cap_ns: time for which the power limit has; reported, never a cause to drop (decision on the protocol).
        foreign: names of processes of others that compute on the device.
        temperature_c: of the chip.
    """

    at_ns: int | None = None
    violation_ns: int | None = None
    power_cap_ns: int | None = None
    foreign: tuple[str, ...] = ()
    temperature_c: float | None = None


class CandidateError(Exception):
    """A candidate could not be run; its status and one line why. Never shown to a user as it is."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Need(NamedTuple):
    """Launches that a candidate's sample needs to be long against the timer, and the time of one in ns."""

    launches: int
    launch_ns: float


class Session(Protocol):
    """Prepared candidates on a device in one regime."""

    def need(self, candidate: Candidate) -> Need:
        """Launch every buffer set of a candidate once, and see how many launches make a sample long enough.

        Raises:
            CandidateError: it cannot be run.
        """
        ...

    def prepare(self, candidate: Candidate, launches: int | None = None) -> int:
        """Make a candidate ready to be sampled (calibrate, capture); returns its launches per sample.

        Args:
            candidate: on the buffers of one layout.
            launches: wanted per sample; None = as many as it needs by itself.

        Raises:
            CandidateError: it cannot be run.
        """
        ...

    def free_bytes(self) -> int | None:
        """Memory that more buffers may take; None where it is not told."""
        ...

    def warm_up(self, order: Sequence[int], seconds: float) -> Sequence[Sample]:
        """Keep the device busy with rounds of that order for so long; returns the last samples."""
        ...

    def sample_round(self, order: Sequence[int]) -> Sequence[Sample]:
        """One sample of each prepared candidate of `order`, in that order."""
        ...

    def border(self) -> Border:
        """State of the device now; waits until it is idle."""
        ...

    def rest(self, seconds: float) -> None:
        """Let the device recover."""
        ...

    def now_s(self) -> float:
        """Seconds on a clock that only runs forward; a fake device has its own."""
        ...

    def energy_mj(self, index: int) -> float | None:
        """Millijoules of one launch of a candidate, idle power included; None where nobody counts."""
        ...


class Device(Protocol):
    """Something that can be timed."""

    @property
    def name(self) -> str:
        """Marketing name, as in an `Environment`."""
        ...

    @property
    def timer(self) -> str:
        """What measures, as in a `Measurement`."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing here and what that means for its numbers, in words."""
        ...

    @property
    def cache_bytes(self) -> int | None:
        """Size of the last cache before memory."""
        ...

    @property
    def order_seed(self) -> int | None:
        """What the order of samples is drawn by; None = another one for each comparison."""
        ...

    @property
    def peaks(self) -> Peaks:
        """Measured peaks; measured at the first call, kept afterwards."""
        ...

    def open(self, regime: Regime) -> AbstractContextManager[Session]:
        """A session; leaving it frees what was prepared."""
        ...


def rotation_slots(buffer_bytes: int, cache_bytes: int | None, *, limit: int = MAX_SLOTS) -> int:
    """Buffer sets of `buffer_bytes` each to rotate over so that every launch finds its own out of the cache.

    At least 2, so that every candidate of a comparison can be launched as often as every other: of a set that is larger
    than the cache, the end could still be there when it is read again. 1 where the cache's size is unknown (a cold
    sample is then a single launch after the cache was cleared, of everybody).
    """
    if cache_bytes is None or buffer_bytes <= 0:
        return 1
    return min(limit, ceil(ROTATION_FACTOR * cache_bytes / buffer_bytes) + 1)
