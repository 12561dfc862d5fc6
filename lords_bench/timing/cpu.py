"""Wall-clock timing on the processor: what a machine without a GPU can offer, through the same protocol."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lords_bench.records.measurement import Peaks, Regime
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.device import Border, Need, Sample
from lords_bench.timing.failure import failure_of
from lords_bench.timing.memory import available_bytes
from lords_bench.timing.probe import cpu_model

# A sample lasts at least this long, so that the steps of the clock and the call to it do not count.
SAMPLE_NS = 50_000
MAX_LAUNCHES = 1000
CLEAR_FACTOR = 2
SPARE_CACHE_BYTES = 32 * 2**20


class CpuDevice:
    """This machine's processor.

    A cold sample overwrites twice the last cache beforehand and is a single launch, or one launch on each of the
    buffer sets; hot and eager samples repeat the launch on one set.
    """

    timer = "perf-counter"
    order_seed: int | None = None
    notes: tuple[str, ...] = ("the processor's clock is not known sample by sample",)

    def __init__(self) -> None:
        self.name = cpu_model() or "cpu"
        self.cache_bytes: int | None = last_cache_bytes()
        self.peaks = Peaks()

    @contextmanager
    def open(self, regime: Regime) -> Iterator["CpuSession"]:
        """A session; its buffers are freed at the end."""
        clear = bytearray(CLEAR_FACTOR * (self.cache_bytes or SPARE_CACHE_BYTES)) if regime == "cold" else None
        yield CpuSession(clear)


class CpuSession:
    """Prepared candidates on the processor."""

    def __init__(self, clear: bytearray | None) -> None:
        self._clear = clear
        self._candidates: list[tuple[Candidate, int]] = []

    def need(self, candidate: Candidate) -> Need:
        """Launch on every buffer set once, and count how many launches make a sample long enough."""
        try:
            for slot in range(candidate.slots):
                candidate.launch(slot)
            begin = time.perf_counter_ns()
            candidate.launch(0)
            spent = max(1, time.perf_counter_ns() - begin)
        # Whatever a candidate raises is its outcome.
        except Exception as error:
            raise failure_of(error) from error
        enough = min(MAX_LAUNCHES, -(-SAMPLE_NS // spent))
        return Need(enough if self._clear is None else candidate.slots, spent)

    def prepare(self, candidate: Candidate, launches: int | None = None) -> int:
        """Count how many launches a sample has; one set alone is cold only once after each clearing."""
        wanted = self.need(candidate).launches if launches is None else launches
        if self._clear is not None and candidate.slots == 1:
            wanted = 1
        self._candidates.append((candidate, wanted))
        return wanted

    def free_bytes(self) -> int | None:
        """What Linux says can be had without swapping."""
        return available_bytes()

    def warm_up(self, order: Sequence[int], seconds: float) -> Sequence[Sample]:
        """Rounds for that long."""
        end, samples = time.monotonic() + seconds, self.sample_round(order)
        while time.monotonic() < end:
            samples = self.sample_round(order)
        return samples

    def sample_round(self, order: Sequence[int]) -> list[Sample]:
        return [self._sample(*self._candidates[index]) for index in order]

    def border(self) -> Border:
        """Nothing is known about the processor's limits; see `lords-bench env`."""
        return Border()

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def now_s(self) -> float:
        """Monotonic clock."""
        return time.monotonic()

    def energy_mj(self, index: int) -> float | None:
        """Nobody counts."""
        assert index >= 0
        return None

    def _sample(self, candidate: Candidate, launches: int) -> Sample:
        if self._clear is not None:
            self._clear[:] = bytes(len(self._clear))
        launch, slots = candidate.launch, candidate.slots if self._clear is not None else 1
        try:
            begin = time.perf_counter_ns()
            for index in range(launches):
                launch(index % slots)
            spent = time.perf_counter_ns() - begin
        # Whatever a candidate raises is its outcome.
        except Exception as error:
            raise failure_of(error) from error
        return Sample(spent / launches, None)


def last_cache_bytes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    """Size of the largest cache that Linux tells of; None where it does not."""
    sizes = []
    for path in folder.glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * unit)
    return max(sizes, default=None)
