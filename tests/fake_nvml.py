"""A stand-in for `pynvml`: what the driver would say, as plain attributes."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As in pynvml."""


class FakeNvmlLibrary:
    """Functions answer from `answers` by name; one that is not there is not supported, one that is None fails."""

    NVMLError = NVMLError
    NVML_PERF_POLICY_THERMAL = 1
    NVML_PERF_POLICY_BOARD_LIMIT = 2
    NVML_PERF_POLICY_RELIABILITY = 3
    NVML_PERF_POLICY_POWER = 4
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    nvmlClocksEventReasonUserDefinedClocks = 2

    def __init__(
        self, answers: Mapping[str, Any] | None = None, *, fails: bool = False, pids: tuple[int, ...] = ()
    ) -> None:
        self.answers = dict(answers or {})
        self.fails = fails
        self.pids = pids
        self.violations_ns: dict[int, int] = {}

    def nvmlInit(self) -> None:
        if self.fails:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"index {index}"

    def nvmlDeviceGetCount(self) -> int:
        return int(self.answers.get("count", 1))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        del handle
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetViolationStatus(self, handle: str, policy: int) -> SimpleNamespace:
        del handle
        if not self.violations_ns:
            raise NVMLError("Not Supported")
        return SimpleNamespace(violationTime=self.violations_ns.get(policy, 0))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)

        def answer(*_arguments: Any) -> Any:
            if self.answers.get(name) is None:
                raise NVMLError("Not Supported")
            return self.answers[name]

        return answer
