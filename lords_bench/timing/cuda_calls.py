"""The few things a CUDA session asks of torch, one method each: what surrounds them is tested without a GPU.

Everything is enqueued on the current stream of the current device.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

# `torch.cuda._sleep` counts cycles. At any lower clock the delay is longer than asked for, which does no harm.
CYCLES_PER_NS = 2.0
SPARE_CACHE_BYTES = 128 * 2**20
CLEAR_FACTOR = 2
TIMER_READS = 2048


class CudaCalls(Protocol):
    """See `TorchCalls`."""

    def event(self) -> Any: ...
    def elapsed_ns(self, start: Any, end: Any) -> float: ...
    def has_passed(self, event: Any) -> bool: ...
    def synchronize(self) -> None: ...
    def delay(self, nanoseconds: float) -> None: ...
    def clear_cache(self) -> None: ...
    def free_bytes(self) -> int | None: ...
    def clear_stamps(self) -> None: ...
    def stamp(self, index: int) -> None: ...
    def stamps(self) -> npt.NDArray[np.int64]: ...
    def capture(self, work: Callable[[], Any]) -> "Captured": ...
    def poison(self, output: Any) -> bool: ...
    def copy_of(self, output: Any) -> Any: ...
    def differs(self, output: Any, expected: Any) -> str | None: ...


class Captured(Protocol):
    """A captured graph and the last output of its work."""

    output: Any

    def replay(self) -> None: ...


class TorchGraph:
    """A CUDA graph of some work."""

    def __init__(self, work: Callable[[], Any]) -> None:
        import torch

        self._graph = torch.cuda.CUDAGraph()
        # thread_local: a progress bar in another thread must not break the capture.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self.output = work()

    def replay(self) -> None:
        """Enqueue the work."""
        self._graph.replay()


class CacheClearer:
    """Fills a cache with what nobody needs, and leaves nothing in it to be written back.

    A cache full of what was just overwritten owes memory all of it; whoever comes next would pay for that, and the more
    the more it reads. So as much of other memory is read behind the writing: what the cache holds then, memory has too.

    Args:
        byte_count: how much is written, and how much is read; more than the cache holds.
        place: where.
    """

    def __init__(self, byte_count: int, *, place: str) -> None:
        import torch

        self._sum_of = torch.sum
        self.written = torch.empty(byte_count, dtype=torch.int8, device=place)
        self.read = torch.zeros(-(-byte_count // 4), dtype=torch.float32, device=place)
        self.total = torch.zeros((), dtype=torch.float32, device=place)

    def clear(self) -> None:
        """Enqueue both."""
        self.written.zero_()
        self._sum_of(self.read, dim=0, out=self.total)


class TorchCalls:
    """`CudaCalls` of the current CUDA device.

    Args:
        cache_bytes: size of the L2 cache; None = unknown, the buffer that clears it is then large enough for any.
        multiprocessors: of the device.
        stamp_count: how many stamps are kept at a time.
    """

    def __init__(self, *, cache_bytes: int | None, multiprocessors: int, stamp_count: int) -> None:
        import torch

        from lords_bench.kernels.device_probe import launch

        self._torch, self._launch, self._multiprocessors = torch, launch, multiprocessors
        self._cache = CacheClearer(CLEAR_FACTOR * (cache_bytes or SPARE_CACHE_BYTES), place="cuda")
        places = (stamp_count, launch.MULTIPROCESSOR_PLACES, 2)
        self._table = torch.zeros(places, dtype=torch.int64, device="cuda")

    def event(self) -> Any:
        """Record an event that holds the time."""
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_ns(self, start: Any, end: Any) -> float:
        """Time between two events that have passed."""
        return float(start.elapsed_time(end)) * 1e6

    def has_passed(self, event: Any) -> bool:
        """Whether the device has reached the event."""
        return bool(event.query())

    def synchronize(self) -> None:
        """Wait until the stream is empty; work on other streams is not waited for, on purpose."""
        self._torch.cuda.current_stream().synchronize()

    def delay(self, nanoseconds: float) -> None:
        """Keep the device from going on for so long."""
        self._torch.cuda._sleep(int(nanoseconds * CYCLES_PER_NS))  # noqa: SLF001  (torch has no public delay)

    def clear_cache(self) -> None:
        """Overwrite twice the L2 cache, then read as much of other memory."""
        self._cache.clear()

    def free_bytes(self) -> int | None:
        """What the driver has left, and what torch keeps without using it."""
        cuda = self._torch.cuda
        return int(cuda.mem_get_info()[0]) + int(cuda.memory_reserved()) - int(cuda.memory_allocated())

    def clear_stamps(self) -> None:
        self._table.zero_()

    def stamp(self, index: int) -> None:
        """Note time and cycles of every multiprocessor."""
        self._launch.stamp(self._table[index], self._multiprocessors)

    def stamps(self) -> npt.NDArray[np.int64]:
        """(stamps, multiprocessors, 2) nanoseconds and cycles, 0 where a stamp did not come."""
        found: npt.NDArray[np.int64] = self._table.cpu().numpy()
        return found

    def timer_readings(self) -> npt.NDArray[np.int64]:
        """Readings of the nanosecond timer in quick succession."""
        times = self._torch.zeros(TIMER_READS, dtype=self._torch.int64, device="cuda")
        self._launch.timer_steps(times)
        found: npt.NDArray[np.int64] = times.cpu().numpy()
        return found

    def capture(self, work: Callable[[], Any]) -> Captured:
        """A graph of the work, which is not done."""
        return TorchGraph(work)

    def poison(self, output: Any) -> bool:
        """Fill a floating-point output with NaN; whether it was one."""
        torch = self._torch
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return False
        with torch.no_grad():
            output.fill_(float("nan"))
        return True

    def copy_of(self, output: Any) -> Any:
        """A copy that nothing overwrites; what is no tensor as it is."""
        return output.detach().clone() if isinstance(output, self._torch.Tensor) else output

    def differs(self, output: Any, expected: Any) -> str | None:
        """How an output differs from the expected one; None = by no more than another order of summation could."""
        torch = self._torch
        if not isinstance(output, torch.Tensor) or not isinstance(expected, torch.Tensor):
            return None
        if output.shape != expected.shape:
            return f"its shape is {tuple(output.shape)}, not {tuple(expected.shape)}"
        unwritten = int(output.isnan().sum())
        if unwritten:
            return f"{unwritten} of {output.numel()} elements were not written"
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        error = float((output.double() - expected.double()).abs().max()) if expected.numel() else 0.0
        return f"it is off by {error:.3g} where the largest is {largest:.3g}" if error > 0.02 * largest else None
