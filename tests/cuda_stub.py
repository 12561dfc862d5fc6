"""A stream that exists only as a list: what a CUDA session asked for, in order, with virtual times."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MULTIPROCESSORS = 4
CLOCK_MHZ = 1500.0
CLEAR_NS = 40_000.0
STAMP_NS = 2_000.0


@dataclass
class StubEvent:
    at_ns: float


@dataclass
class StubGraph:
    calls: "StubCalls"
    work_ns: float
    output: Any
    computed: Any

    def replay(self) -> None:
        self.calls.log.append("replay")
        self.calls.now_ns += self.work_ns
        if isinstance(self.output, np.ndarray):
            self.output[...] = self.computed


@dataclass
class StubCalls:
    """`CudaCalls` whose device takes `device_ns` per launch and whose host takes `host_ns` to submit anything.

    Candidates launch by `run`. The device's clock is `now_ns`; the delay is over for the host's eye as soon as the host
    has spent longer than it on submitting.
    """

    device_ns: float = 10_000.0
    host_ns: float = 1_000.0
    capture_fails: bool = False
    side_stream: bool = False
    log: list[str] = field(default_factory=list)
    now_ns: float = 1e6
    submitted_ns: float = 0.0
    delay_until_ns: float = 0.0
    delays: list[float] = field(default_factory=list)
    gc_during_capture: bool | None = None
    capturing: bool = False
    captured_ns: float = 0.0
    table: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((17, MULTIPROCESSORS, 2), np.int64))

    def run(self, output: Any) -> Any:
        """What a candidate's launch does: fill its output on the device."""
        if self.capturing:
            self.captured_ns += 0.0 if self.side_stream else self.device_ns
            return np.zeros_like(output)
        self.log.append("launch")
        self.submitted_ns += self.host_ns
        self.now_ns += self.device_ns
        return output.copy()

    def event(self) -> StubEvent:
        self.log.append("event")
        self.submitted_ns += self.host_ns
        return StubEvent(self.now_ns)

    def elapsed_ns(self, start: StubEvent, end: StubEvent) -> float:
        return end.at_ns - start.at_ns

    def has_passed(self, event: StubEvent) -> bool:
        del event
        return self.submitted_ns > self.delay_until_ns

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def delay(self, nanoseconds: float) -> None:
        self.log.append("delay")
        self.delays.append(nanoseconds)
        self.submitted_ns = 0.0
        self.delay_until_ns = nanoseconds
        self.now_ns += nanoseconds

    def clear_cache(self) -> None:
        self.log.append("clear")
        self.now_ns += CLEAR_NS

    def free_bytes(self) -> int | None:
        return None

    def clear_stamps(self) -> None:
        self.table[:] = 0

    def stamp(self, index: int) -> None:
        self.log.append("stamp")
        self.table[index, :, 0] = int(self.now_ns)
        self.table[index, :, 1] = int(self.now_ns * CLOCK_MHZ / 1e3)
        self.now_ns += STAMP_NS

    def stamps(self) -> npt.NDArray[np.int64]:
        return self.table.copy()

    def capture(self, work: Callable[[], Any]) -> StubGraph:
        self.gc_during_capture = gc.isenabled()
        if self.capture_fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.capturing, self.captured_ns = True, 0.0
        output = work()
        self.capturing = False
        computed = np.full_like(output, np.nan) if self.side_stream else np.ones_like(output)
        return StubGraph(self, self.captured_ns, output, computed)

    def poison(self, output: Any) -> bool:
        if not isinstance(output, np.ndarray):
            return False
        output[...] = np.nan
        return True

    def copy_of(self, output: Any) -> Any:
        return output.copy() if isinstance(output, np.ndarray) else output

    def differs(self, output: Any, expected: Any) -> str | None:
        unwritten = int(np.isnan(output).sum())
        if unwritten:
            return f"{unwritten} of {output.size} elements were not written"
        return None if np.allclose(output, expected) else "it is off"
