"""A CUDA device: what it is, what it reaches, and sessions on it (`cuda_session.py`)."""

from collections.abc import Iterator
from contextlib import contextmanager

from lords_bench.errors import UsageError
from lords_bench.records.measurement import Peaks, Regime
from lords_bench.timing.batch import timer_step_ns
from lords_bench.timing.cuda_calls import TorchCalls
from lords_bench.timing.cuda_session import SEATS_PER_DELAY, CudaSession
from lords_bench.timing.nvml import open_nvml
from lords_bench.timing.peaks import measure_peaks


class CudaDevice:
    """The CUDA device `index`; None is torch's current one.

    Raises:
        UsageError: torch sees no CUDA device.
    """

    timer = "cuda-events"
    order_seed: int | None = None

    def __init__(self, index: int | None = None) -> None:
        import torch

        if not torch.cuda.is_available():
            raise UsageError("no CUDA device to measure on; CpuDevice measures on the processor")
        self._index = torch.cuda.current_device() if index is None else index
        self._properties = torch.cuda.get_device_properties(self._index)
        self.name = str(self._properties.name)
        self.cache_bytes: int | None = getattr(self._properties, "L2_cache_size", None) or None
        # NVML in a container names processes by numbers of another name space. What already computes when it is opened
        # is known to it, this process included only if its context exists by then.
        torch.zeros(1, device=f"cuda:{self._index}")
        torch.cuda.synchronize(self._index)
        self.nvml, missing = open_nvml(str(getattr(self._properties, "uuid", "")))
        self.notes: tuple[str, ...] = (missing,) if missing else ()
        self._peaks: Peaks | None = None
        self._step_ns: float | None = None

    @property
    def peaks(self) -> Peaks:
        """Measured once, in about two seconds and 3 GB."""
        if self._peaks is None:
            self._peaks = measure_peaks(self._index)
        return self._peaks

    @contextmanager
    def open(self, regime: Regime) -> Iterator["CudaSession"]:
        """A session on this device's current stream; leaving it frees graphs and buffers."""
        import torch

        with torch.cuda.device(self._index):
            calls = TorchCalls(
                cache_bytes=self.cache_bytes,
                multiprocessors=int(self._properties.multi_processor_count),
                stamp_count=SEATS_PER_DELAY + 1,
            )
            if self._step_ns is None:
                # A timer that never moved cannot tell a clock: an endless step makes every span too short.
                self._step_ns = timer_step_ns(calls.timer_readings()) or float("inf")
            session = CudaSession(calls, regime, step_ns=self._step_ns, nvml=self.nvml)
            try:
                yield session
            finally:
                session.close()
