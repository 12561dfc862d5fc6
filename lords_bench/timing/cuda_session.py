"""Timing on a CUDA device: graphs of rotated launches between events, submitted while a delay holds the device back.

One round on the stream: delay, stamp, then for every seat [clear the cache, event, graph, event, stamp]. Nothing waits
for the device until the whole round is queued, so neither Python nor the launch is ever inside an interval, and
the start event follows the clearing with nothing between them. The host notes whether the delay was over before
everything was queued; such a round is taken again with a longer delay.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.timing.batch import batch_launches, clock_between
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.cuda_calls import Captured, CudaCalls
from lords_bench.timing.device import Border, CandidateError, Need, Sample
from lords_bench.timing.failure import failure_of
from lords_bench.timing.nvml import Nvml

# CUDA's manual states the resolution of events: "around 0.5 microseconds" (cudaEventElapsedTime).
EVENT_STEP_NS = 500.0
MAX_GRAPH_LAUNCHES = 256
# Launches outside a graph fill the queue; more than these could make the host wait for the device.
MAX_STREAM_LAUNCHES = 32
SEATS_PER_DELAY = 16
ESTIMATE_LAUNCHES = 5
EAGER_SAMPLE_NS = 200_000.0
FIRST_DELAY_NS = 1e6
LONGEST_DELAY_NS = 100e6
DELAY_SLACK = 1.5
ATTEMPTS = 4
ENERGY_S = 0.6
ENERGY_BATCHES = 8


@dataclass(frozen=True, slots=True)
class _Ready:
    """A candidate that can be sampled; `graph` is None where it could not be captured."""

    candidate: Candidate
    graph: Captured | None
    launches: int
    slots: int

    def enqueue(self) -> None:
        if self.graph is not None:
            self.graph.replay()
            return
        for index in range(self.launches):
            self.candidate.launch(index % self.slots)


class CudaSession:
    """Prepared candidates on a CUDA device in one regime."""

    def __init__(self, calls: CudaCalls, regime: Regime, *, step_ns: float, nvml: Nvml | None) -> None:
        self._calls, self._regime, self._step_ns, self._nvml = calls, regime, step_ns, nvml
        self._ready: list[_Ready] = []
        self._delay_ns = FIRST_DELAY_NS

    def close(self) -> None:
        """Free the graphs and their memory."""
        self._calls.synchronize()
        self._ready.clear()

    def need(self, candidate: Candidate) -> Need:
        """Launch every buffer set once, and see how many launches make a batch that is long enough."""
        try:
            slots = self._slots(candidate)
            for slot in range(slots):
                candidate.launch(slot)
            self._calls.synchronize()
            launch_ns = self._estimate(candidate, slots)
        # Whatever a candidate raises is its outcome.
        except Exception as error:
            raise failure_of(error) from error
        if self._regime == "eager":
            return Need(max(1, min(MAX_STREAM_LAUNCHES, round(EAGER_SAMPLE_NS / launch_ns))), launch_ns)
        return Need(batch_launches(launch_ns, EVENT_STEP_NS, limit=MAX_GRAPH_LAUNCHES), launch_ns)

    def prepare(self, candidate: Candidate, launches: int | None = None) -> int:
        """Capture a batch."""
        wanted = self.need(candidate).launches if launches is None else launches
        try:
            return self._prepare(candidate, wanted)
        # Whatever a candidate raises is its outcome.
        except Exception as error:
            raise failure_of(error) from error

    def free_bytes(self) -> int | None:
        return self._calls.free_bytes()

    def _slots(self, candidate: Candidate) -> int:
        return 1 if self._regime == "hot" else candidate.slots

    def _prepare(self, candidate: Candidate, launches: int) -> int:
        slots = self._slots(candidate)
        if self._regime == "eager":
            launches = min(launches, MAX_STREAM_LAUNCHES)
            self._ready.append(_Ready(candidate, None, launches, slots))
            return launches
        if self._regime == "cold" and slots == 1:
            # One set alone is cold only once after each clearing.
            launches = 1
        graph = self._captured(candidate, launches, slots)
        if graph is None:
            self._refuse_waiting(candidate)
            launches = min(launches, MAX_STREAM_LAUNCHES)
        self._ready.append(_Ready(candidate, graph, launches, slots))
        return launches

    def _estimate(self, candidate: Candidate, slots: int) -> float:
        """Device time of a launch, its submission hidden as in a sample."""
        self._calls.delay(FIRST_DELAY_NS)
        start = self._calls.event()
        for index in range(ESTIMATE_LAUNCHES):
            candidate.launch(index % slots)
        end = self._calls.event()
        self._calls.synchronize()
        return max(1.0, self._calls.elapsed_ns(start, end) / ESTIMATE_LAUNCHES)

    def _captured(self, candidate: Candidate, launches: int, slots: int) -> Captured | None:
        """A graph whose replay was seen to compute what a launch does; None where it cannot be captured."""

        def work() -> Any:
            output = None
            for index in range(launches):
                output = candidate.launch(index % slots)
            return output

        expected = self._calls.copy_of(candidate.launch((launches - 1) % slots))
        self._calls.synchronize()
        try:
            with _no_garbage_collection():
                graph = self._calls.capture(work)
        except RuntimeError:
            # It waits for the device or allocates by other means: it is timed launch by launch instead.
            return None
        if self._calls.poison(graph.output):
            graph.replay()
            self._calls.synchronize()
            wrong = self._calls.differs(graph.output, expected)
            if wrong:
                reason = (
                    f"when its launches are replayed on one stream, {wrong}: it works on another stream or not at all"
                )
                raise CandidateError(Status.INVALID, reason)
        return graph

    def _refuse_waiting(self, candidate: Candidate) -> None:
        """A launch that waits for the device cannot be hidden behind a delay."""
        self._calls.delay(FIRST_DELAY_NS * 5)
        held = self._calls.event()
        candidate.launch(0)
        waited = self._calls.has_passed(held)
        self._calls.synchronize()
        if waited:
            raise CandidateError(Status.INVALID, "its launch waits for the device; only regime eager can time it")

    def warm_up(self, order: Sequence[int], seconds: float) -> Sequence[Sample]:
        """Rounds for that long."""
        end, samples = time.monotonic() + seconds, self.sample_round(order)
        while time.monotonic() < end:
            samples = self.sample_round(order)
        return samples

    def sample_round(self, order: Sequence[int]) -> list[Sample]:
        """One sample of each; a long round is submitted in parts."""
        try:
            with _no_garbage_collection():
                if self._regime == "eager":
                    return [self._eager(self._ready[index]) for index in order]
                parts = [order[first : first + SEATS_PER_DELAY] for first in range(0, len(order), SEATS_PER_DELAY)]
                return [sample for part in parts for sample in self._hidden([self._ready[index] for index in part])]
        # Whatever a candidate raises is its outcome.
        except Exception as error:
            raise failure_of(error) from error

    def _hidden(self, seats: Sequence[_Ready]) -> list[Sample]:
        for _ in range(ATTEMPTS):
            begin = time.perf_counter_ns()
            self._calls.clear_stamps()
            self._calls.delay(self._delay_ns)
            delayed = self._calls.event()
            events = self._enqueue(seats)
            exposed = self._calls.has_passed(delayed)
            spent_ns = time.perf_counter_ns() - begin
            self._calls.synchronize()
            if not exposed:
                # Follow the host slowly downwards, so that one quick round does not expose the next.
                self._delay_ns = max(FIRST_DELAY_NS / 10, 0.9 * self._delay_ns, DELAY_SLACK * spent_ns)
                self._delay_ns = min(self._delay_ns, LONGEST_DELAY_NS)
                return self._samples(seats, events)
            self._delay_ns = min(LONGEST_DELAY_NS, 2 * DELAY_SLACK * max(spent_ns, self._delay_ns))
        reason = f"launches take the host longer than {LONGEST_DELAY_NS / 1e6:g} ms; only regime eager can time them"
        raise CandidateError(Status.INVALID, reason)

    def _enqueue(self, seats: Sequence[_Ready]) -> list[tuple[Any, Any]]:
        events = []
        self._calls.stamp(0)
        for place, ready in enumerate(seats, start=1):
            if self._regime == "cold":
                self._calls.clear_cache()
            else:
                ready.enqueue()
            start = self._calls.event()
            ready.enqueue()
            events.append((start, self._calls.event()))
            self._calls.stamp(place)
        return events

    def _samples(self, seats: Sequence[_Ready], events: Sequence[tuple[Any, Any]]) -> list[Sample]:
        stamps = self._calls.stamps()
        return [
            Sample(
                self._calls.elapsed_ns(start, end) / ready.launches,
                clock_between(stamps[place], stamps[place + 1], self._step_ns),
            )
            for place, (ready, (start, end)) in enumerate(zip(seats, events, strict=True))
        ]

    def _eager(self, ready: _Ready) -> Sample:
        """Wall clock from the first call until the device has done the last, per call."""
        self._calls.clear_stamps()
        self._calls.stamp(0)
        self._calls.synchronize()
        begin = time.perf_counter_ns()
        ready.enqueue()
        self._calls.synchronize()
        spent_ns = time.perf_counter_ns() - begin
        self._calls.stamp(1)
        self._calls.synchronize()
        stamps = self._calls.stamps()
        return Sample(spent_ns / ready.launches, clock_between(stamps[0], stamps[1], self._step_ns))

    def border(self) -> Border:
        """NVML's counters, with the stream empty."""
        self._calls.synchronize()
        return self._nvml.border() if self._nvml else Border()

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def now_s(self) -> float:
        """Monotonic clock of the host."""
        return time.monotonic()

    def energy_mj(self, index: int) -> float | None:
        """Launches back to back until NVML's counter has moved well."""
        before = self._nvml.energy_mj() if self._nvml else None
        if before is None:
            return None
        ready, batches = self._ready[index], 0
        end = time.monotonic() + ENERGY_S
        while time.monotonic() < end:
            for _ in range(ENERGY_BATCHES):
                ready.enqueue()
            self._calls.synchronize()
            batches += ENERGY_BATCHES
        after = self._nvml.energy_mj() if self._nvml else None
        return None if after is None or after <= before else (after - before) / (batches * ready.launches)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A finaliser that frees device memory or unloads a module breaks a capture and delays a launch."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
