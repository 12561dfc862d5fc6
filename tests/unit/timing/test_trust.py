"""What `lords-bench env` says about trust, in words."""

import os
from pathlib import Path
from typing import Any

import pytest

from fake_nvml import FakeNvmlLibrary
from lords_bench.timing.nvml import open_nvml
from lords_bench.timing.trust import cpu_findings, cpu_quota, gpu_findings

CALM: dict[str, Any] = {
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetCurrentClocksEventReasons": 2,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetTotalEnergyConsumption": 12345,
    "nvmlDeviceGetTemperature": 35,
}


def concerns(changes: dict[str, Any], *, pids: tuple[int, ...] = (), counts: bool = True) -> dict[str, str]:
    library = FakeNvmlLibrary(CALM | changes, pids=(os.getpid(), *pids))
    library.violations_ns = {1: 1} if counts else {}
    nvml, _ = open_nvml("abc", library=library)
    return {finding.topic: finding.concern for finding in gpu_findings(nvml) if finding.concern is not None}


def test_a_calm_exclusive_gpu_with_locked_clocks_raises_no_concern() -> None:
    assert concerns({}) == {}


@pytest.mark.parametrize(
    ("changes", "topic", "words"),
    [
        ({"nvmlDeviceGetPersistenceMode": 0}, "persistence mode", "the driver unloads"),
        ({"nvmlDeviceGetEccMode": [0, 0]}, "ECC", "memory errors go unseen"),
        ({"nvmlDeviceGetMigMode": [1, 1]}, "MIG", "a slice of a GPU"),
        ({"nvmlDeviceGetCurrentClocksEventReasons": 0}, "SM clock", "different clocks"),
        ({"nvmlDeviceGetEnforcedPowerLimit": 450_000}, "power limit", "below the board's usual 700 W"),
    ],
)
def test_each_setting_that_costs_trust_is_named_with_its_meaning(
    changes: dict[str, Any], topic: str, words: str
) -> None:
    found = concerns(changes)

    assert list(found) == [topic]
    assert words in found[topic]


def test_a_shared_gpu_is_a_concern() -> None:
    assert "the GPU is shared" in concerns({}, pids=(7,))["other processes"]


def test_missing_counters_are_a_concern() -> None:
    assert list(concerns({}, counts=False)) == ["throttling counters"]


def test_an_absent_nvml_is_a_concern_with_its_reason() -> None:
    (finding,) = gpu_findings(None, missing="NVML is absent (…)")

    assert (finding.found, finding.concern) == ("absent", "NVML is absent (…)")


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


CPU = "sys/devices/system/cpu"


@pytest.mark.parametrize(
    ("files", "load", "topics"),
    [
        ({}, 0.1, []),
        ({f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave"}, 0.1, ["governor"]),
        ({f"{CPU}/cpu0/cpufreq/scaling_governor": "performance"}, 0.1, []),
        ({f"{CPU}/intel_pstate/no_turbo": "0"}, 0.1, ["turbo"]),
        ({f"{CPU}/intel_pstate/no_turbo": "1"}, 0.1, []),
        ({f"{CPU}/cpufreq/boost": "1"}, 0.1, ["turbo"]),
        ({}, 3.0, ["load"]),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 0.1, ["cgroup quota"]),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 0.1, []),
    ],
)
def test_a_processor_that_is_not_steady_is_a_concern(
    tmp_path: Path, files: dict[str, str], load: float, topics: list[str]
) -> None:
    found = cpu_findings(machine(tmp_path, files), load=load, cores=4)

    assert [finding.topic for finding in found if finding.concern is not None] == topics


def test_the_quota_of_an_older_control_group_is_read(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/cpu"
    files = {f"{folder}/cpu.cfs_quota_us": "250000", f"{folder}/cpu.cfs_period_us": "100000"}

    assert cpu_quota(machine(tmp_path, files)) == 2.5
    assert cpu_quota(tmp_path / "nothing") is None
