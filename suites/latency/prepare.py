"""A run of the latency suite made ready: what its records share, and what times; for a command and for pytest alike."""

import dataclasses
import uuid
from typing import TYPE_CHECKING

from lords_bench.records.latency import LatencyRun, Policy
from lords_bench.records.measurement import Peaks, Regime
from lords_bench.suites.baselines import installed_versions
from lords_bench.suites.latency.cases import LatencySuite
from lords_bench.suites.latency.run import CPU_REGIMES, GPU_REGIMES, Workbench, tables_sha256
from lords_bench.timing.comparison import FULL, QUICK
from lords_bench.timing.probe import probe_environment

if TYPE_CHECKING:
    from lords_bench.records.environment import Device as Kind
    from lords_bench.timing.device import Device

SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What `run_latency` takes; `device` is None where numbers are made up."""

    run: LatencyRun
    workbench: Workbench
    regimes: tuple[Regime, ...]
    device: "Device | None"


def prepare(
    suite: LatencySuite,
    kind: "Kind | None",
    *,
    command: str,
    policy_name: Policy = "quick",
    regimes: tuple[Regime, ...] | None = None,
    has_own_noise: bool = False,
) -> Prepared:
    """Ask the device what it can reach, and say what is timed with.

    Args:
        suite: the cases.
        kind: what times; None makes numbers up, a GPU's.
        command: the command line, for the records.
        policy_name: how precisely.
        regimes: None is all that the device is timed in.
        has_own_noise: whether made-up numbers scatter otherwise in every run, as a real device's do.
    """
    run_id, on_gpu = uuid.uuid4().hex[:12], kind != "cpu"
    regimes = regimes or (GPU_REGIMES if on_gpu else CPU_REGIMES)
    policy = FULL if policy_name == "full" else QUICK
    run = LatencyRun(
        run_id=run_id,
        size=suite.size,
        is_fake=kind is None,
        policy=policy_name,
        libraries=installed_versions(),
        facts=(),
        peaks=Peaks(),
        dtype="bfloat16" if on_gpu else "float32",
        tables_sha256=tables_sha256() if kind == "cuda" else None,
        planned_comparisons=len(suite.cases) * len(regimes),
        environment=probe_environment(kind or "cpu"),
        command=command,
        seed=SEED,
    )
    if kind is None:
        from lords_bench.suites.latency.fake import DEVICE_NAME, PEAKS, FakeWorkbench

        environment = dataclasses.replace(run.environment, device="cuda", gpu_name=DEVICE_NAME)
        run = dataclasses.replace(run, peaks=PEAKS, environment=environment)
        workbench = FakeWorkbench(policy=policy, seed=int(run_id, 16) if has_own_noise else SEED)
        return Prepared(run=run, workbench=workbench, regimes=regimes, device=None)
    import torch

    from lords_bench.suites.latency.measure import TorchWorkbench

    device, dtype = device_of(kind), getattr(torch, run.dtype)
    run = dataclasses.replace(run, peaks=device.peaks)
    bench = TorchWorkbench(device, place=torch.device(kind), dtype=dtype, policy=policy, seed=SEED)
    return Prepared(run=run, workbench=bench, regimes=regimes, device=device)


def device_of(kind: "Kind") -> "Device":
    """What times on `cuda` or `cpu`."""
    if kind == "cuda":
        from lords_bench.timing.cuda import CudaDevice

        return CudaDevice()
    from lords_bench.timing.cpu import CpuDevice

    return CpuDevice()
