"""What this machine offers a measurement, what it lacks, and what that means for the numbers, in plain words."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lords_bench.timing.nvml import Nvml

# More than this share of the processor busy with something else is worth a word.
BUSY_SHARE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustFinding:
    """One thing that was looked at.

    Attributes:
        topic: what it is, in a word or two.
        found: what was found.
        concern: what that means for trust in a number; None where nothing speaks against it.
    """

    topic: str
    found: str
    concern: str | None = None


def gpu_findings(nvml: Nvml | None, *, missing: str | None = None) -> tuple[TrustFinding, ...]:
    """What the driver says about the GPU; `missing` is why NVML is None, where it is."""
    if nvml is None:
        return (
            TrustFinding(topic="NVML", found="absent", concern=missing or "throttling and other processes go unseen"),
        )
    return tuple(_gpu(nvml))


def _gpu(nvml: Nvml) -> Iterator[TrustFinding]:
    yield _others(nvml)
    yield _clocks(nvml)
    yield _power(nvml)
    yield _switch(
        nvml.ask("nvmlDeviceGetPersistenceMode"),
        "persistence mode",
        off="the driver unloads between runs: the first measurement of each pays for loading it",
    )
    ecc = nvml.ask("nvmlDeviceGetEccMode")
    yield _switch(
        None if ecc is None else ecc[0],
        "ECC",
        off="memory errors go unseen, and memory may be faster than on a machine that corrects them",
    )
    mig = nvml.ask("nvmlDeviceGetMigMode")
    yield _switch(
        None if mig is None else mig[0],
        "MIG",
        on="this is a slice of a GPU: its neighbours share memory and power with it",
    )
    temperature = nvml.border().temperature_c
    yield TrustFinding(topic="temperature", found=_or_unknown(temperature, "{:.0f} °C"))
    counts = nvml.border().violation_ns is not None
    yield TrustFinding(
        topic="throttling counters",
        found="available" if counts else "not available",
        concern=None if counts else "heat and board limits are seen only where they slow the clock by a quarter",
    )
    energy = nvml.energy_mj() is not None
    yield TrustFinding(topic="energy counter", found="available" if energy else "not available: energy stays unknown")


def _others(nvml: Nvml) -> TrustFinding:
    others = nvml.others()
    if others is None:
        return TrustFinding(topic="other processes", found="unknown", concern="somebody else may be using the GPU")
    concern = "the GPU is shared: what they do is in every number; wait for them or choose another GPU"
    return TrustFinding(topic="other processes", found=str(others), concern=concern if others else None)


def _clocks(nvml: Nvml) -> TrustFinding:
    now, highest = nvml.clock_mhz("SM"), nvml.clock_mhz("SM", highest=True)
    locked = nvml.is_clock_locked()
    shown = f"{_or_unknown(now, '{} MHz')} of at most {_or_unknown(highest, '{} MHz')}"
    concern = None
    if not locked:
        shown += ", free to move" if locked is False else ", locked or not is unknown"
        concern = (
            "two runs may see different clocks: compare candidates of one run only, as every table here does "
            "('nvidia-smi --lock-gpu-clocks' holds them, and needs an administrator)"
        )
    return TrustFinding(topic="SM clock", found=shown if not locked else f"{shown}, locked", concern=concern)


def _power(nvml: Nvml) -> TrustFinding:
    limit, usual = nvml.ask("nvmlDeviceGetEnforcedPowerLimit"), nvml.ask("nvmlDeviceGetPowerManagementDefaultLimit")
    shown = _or_unknown(None if limit is None else limit / 1000, "{:.0f} W")
    if limit is not None and usual is not None and limit < usual:
        concern = f"below the board's usual {usual / 1000:.0f} W: large products run at a lower clock than on others"
        return TrustFinding(topic="power limit", found=shown, concern=concern)
    return TrustFinding(topic="power limit", found=shown)


def _switch(state: int | None, topic: str, *, on: str | None = None, off: str | None = None) -> TrustFinding:
    if state is None:
        return TrustFinding(topic=topic, found="unknown")
    return TrustFinding(topic=topic, found="on" if state else "off", concern=on if state else off)


def cpu_findings(
    root: Path = Path("/"), *, load: float | None = None, cores: int | None = None
) -> tuple[TrustFinding, ...]:
    """What Linux says about the processor.

    Args:
        root: where /proc and /sys are, for tests.
        load: running processes on average over the last minute; None asks the system.
        cores: logical cores of this process; None asks the system.
    """
    return tuple(_cpu(root, load, cores))


def _cpu(root: Path, load: float | None, cores: int | None) -> Iterator[TrustFinding]:
    cpu = root / "sys/devices/system/cpu"
    governor = _text(cpu / "cpu0/cpufreq/scaling_governor")
    steady = governor in (None, "performance")
    yield TrustFinding(
        topic="governor",
        found=governor or "not told (a virtual machine, often)",
        concern=None if steady else "the clock follows the load: short measurements run slower than long ones",
    )
    turbo = _turbo(cpu)
    concern = "the clock depends on how many cores are busy and how hot they are"
    yield TrustFinding(
        topic="turbo",
        found="unknown" if turbo is None else ("on" if turbo else "off"),
        concern=concern if turbo else None,
    )
    known = cores or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    running = os.getloadavg()[0] if load is None else load
    yield TrustFinding(
        topic="load",
        found=f"{running:.1f} running on {known} cores",
        concern="other work runs beside the measurement: times are longer and scatter more"
        if running > BUSY_SHARE * known
        else None,
    )
    quota = cpu_quota(root)
    yield TrustFinding(
        topic="cgroup quota",
        found="none" if quota is None else f"{quota:g} cores",
        concern="a process that uses more is stopped for the rest of each period, which shows as spikes"
        if quota is not None and quota < known
        else None,
    )


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores that the control group (version 2, then 1) allows; None = no limit, or none told."""
    both = _text(root / "sys/fs/cgroup/cpu.max")
    if both is None:
        quota = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
        both = f"{quota} {period}"
    parts = both.split()
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or int(parts[1]) == 0:
        return None
    return int(parts[0]) / int(parts[1])


def _turbo(cpu: Path) -> bool | None:
    boost, disabled = _text(cpu / "cpufreq/boost"), _text(cpu / "intel_pstate/no_turbo")
    if boost is not None:
        return boost == "1"
    return None if disabled is None else disabled == "0"


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _or_unknown(value: float | None, shown: str) -> str:
    return "unknown" if value is None else shown.format(value)
