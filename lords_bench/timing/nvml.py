"""What the driver tells about a GPU through NVML (nvidia-ml-py). Optional: each answer may be None, and NVML absent.

NVML refreshes its numbers every 20 to 100 ms, so it is asked between batches of rounds, never about one sample.
"""

import os
import time
from importlib import import_module
from typing import Any

from lords_bench.errors import reason_of
from lords_bench.timing.device import Border

# Reasons other than the power limit for which the driver holds the clock down, with counters in ns. Not among them is
# the reliability voltage: it is what ends boosting where nothing else does, so that it may count all the time.
VIOLATIONS = ("NVML_PERF_POLICY_THERMAL", "NVML_PERF_POLICY_BOARD_LIMIT")


class Nvml:
    """One GPU.

    Args:
        library: the module `pynvml`, initialised.
        handle: of the GPU.
    """

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        self._known = frozenset(process.pid for process in self._processes())

    def border(self) -> Border:
        """Counters, temperature, and processes that came after this object was made."""
        held = [self._violation_ns(policy) for policy in VIOLATIONS]
        known = [value for value in held if value is not None]
        return Border(
            at_ns=time.monotonic_ns(),
            violation_ns=sum(known) if known else None,
            power_cap_ns=self._violation_ns("NVML_PERF_POLICY_POWER"),
            foreign=tuple(f"process {p.pid}" for p in self._processes() if p.pid not in self._known | {os.getpid()}),
            temperature_c=self.ask("nvmlDeviceGetTemperature", self._constant("NVML_TEMPERATURE_GPU")),
        )

    def energy_mj(self) -> float | None:
        """Energy since the driver was loaded, in millijoules."""
        energy = self.ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if energy is None else float(energy)

    def others(self) -> int | None:
        """How many processes besides this one compute on the GPU.

        In a container the driver may know this process by another number: one unknown process is then taken for it.
        """
        processes = self.ask("nvmlDeviceGetComputeRunningProcesses")
        if processes is None:
            return None
        pids = {process.pid for process in processes}
        return len(pids - {os.getpid()}) if os.getpid() in pids else max(0, len(pids) - 1)

    def ask(self, function: str, *arguments: Any) -> Any:
        """The answer of a function about this GPU; None where the driver does not support or allow it."""
        asked = getattr(self._library, function, None)
        if asked is None:
            return None
        try:
            return asked(self._handle, *arguments)
        except self._library.NVMLError:
            return None

    def clock_mhz(self, domain: str, *, highest: bool = False) -> int | None:
        """Clock of `SM` or `MEM` now, or the highest it can take."""
        function = "nvmlDeviceGetMaxClockInfo" if highest else "nvmlDeviceGetClockInfo"
        clock = self.ask(function, self._constant(f"NVML_CLOCK_{domain}"))
        return None if clock is None else int(clock)

    def is_clock_locked(self) -> bool | None:
        """Whether somebody fixed the clocks (`UserDefinedClocks` is among the reasons they stand where they stand)."""
        reasons = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        mask = self._constant("nvmlClocksEventReasonUserDefinedClocks")
        return None if reasons is None or mask is None else bool(int(reasons) & int(mask))

    def _violation_ns(self, policy: str) -> int | None:
        answer = self.ask("nvmlDeviceGetViolationStatus", self._constant(policy))
        return None if answer is None else int(answer.violationTime)

    def _processes(self) -> list[Any]:
        return self.ask("nvmlDeviceGetComputeRunningProcesses") or []

    def _constant(self, name: str) -> Any:
        return getattr(self._library, name, None)


def open_nvml(uuid: str, *, library: Any = None) -> tuple[Nvml | None, str | None]:
    """The GPU of that UUID (with or without `GPU-`), else why there is none, in words.

    Args:
        uuid: as torch tells it; empty = the only GPU there is.
        library: stands in for `pynvml` in tests.
    """
    if library is None:
        try:
            library = import_module("pynvml")
        except ModuleNotFoundError:
            return None, "NVML is absent (nvidia-ml-py is not installed): throttling and other processes go unseen"
    try:
        library.nvmlInit()
        if uuid:
            name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            return Nvml(library, library.nvmlDeviceGetHandleByUUID(name)), None
        if library.nvmlDeviceGetCount() != 1:
            return None, "NVML knows several GPUs and torch does not say which is meant: throttling goes unseen"
        return Nvml(library, library.nvmlDeviceGetHandleByIndex(0)), None
    except library.NVMLError as error:
        return None, f"NVML does not answer ({reason_of(error)}): throttling and other processes go unseen"
