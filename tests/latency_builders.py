"""Valid latency records with defaults, and whole small runs of the fake device; a test overrides what it is about."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lords_bench.records.latency import LatencyCase, LatencyRecord, LatencyRun
from lords_bench.records.measurement import Measurement, Peaks, Regime
from lords_bench.records.status import Status
from lords_bench.records.store import NounStore
from lords_bench.suites.latency.cases import LatencySuite
from lords_bench.suites.latency.fake import DEVICE_NAME, PEAKS, FakeWorkbench
from lords_bench.suites.latency.judge import DeviceTimes, select_devices
from lords_bench.suites.latency.run import run_latency
from lords_bench.terminal import Watcher
from lords_bench.timing.comparison import Policy
from record_builders import make_environment

# Enough for an interval, few enough for a file.
BRIEF = Policy(min_rounds=12, max_rounds=12, half_width=0.01, budget_s=1.0, energy=False)


def make_case(**changes: Any) -> LatencyCase:
    """Attention output of Llama-3-8B at M = 16, 4 bits."""
    fields: dict[str, Any] = {
        "model": "llama-3-8b", "layer": "o_proj", "m": 16, "n": 4096, "k": 4096, "bits": 4, "block": 64,
    }  # fmt: skip
    return LatencyCase(**{**fields, **changes})


def make_run(**changes: Any) -> LatencyRun:
    """A run on a fictional GPU."""
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "size": "quick",
        "is_fake": False,
        "policy": "quick",
        "libraries": (("bitsandbytes", "0.50.2"), ("gemlite", None), ("peft", "0.21.2")),
        "facts": (("driver", "570.1"),),
        "peaks": Peaks(copy_gbps=4000.0, read_gbps=4200.0, matmul_tflops=700.0),
        "dtype": "bfloat16",
        "tables_sha256": None,
        "planned_comparisons": 1,
        "environment": make_environment(device="cuda", gpu_name="Example GPU"),
        "command": "lords-bench bench latency",
        "seed": 0,
    }
    return LatencyRun(**{**fields, **changes})


def make_measurement(*samples_ns: float, regime: Regime = "cold") -> Measurement:
    """Samples at an unknown clock; twelve of about 10 µs where none are given."""
    samples = samples_ns or tuple(10_000.0 + 10 * index for index in range(12))
    return Measurement(
        regime=regime, timer="fake", samples_ns=samples, clock_mhz=(None,) * len(samples)
    )  # fmt: skip


def make_latency(method: str = "lords", **changes: Any) -> LatencyRecord:
    """A record of 12 samples; a status other than ok drops the samples and gets a reason."""
    fields: dict[str, Any] = {
        "run": make_run(),
        "case": make_case(),
        "regime": "cold",
        "comparison_id": "run-1/o_proj/cold/1",
        "methods": ("lords", "dense", "dense-again"),
        "method": method,
        "kernel": "scale_tile",
        "config_origin": "exact",
        "bits_per_weight": 4.25,
        "status": Status.OK,
        "worst_error": 0.5,
        "bytes_moved": 9_000_000,
        "flops": 2 * 16 * 4096 * 4096,
        "measurement": make_measurement(),
        "created_utc": "2026-01-31T12:00:00Z",
    }
    if changes.get("status", Status.OK) is not Status.OK:
        fields |= {"measurement": None, "reason": "it did not work"}
    return LatencyRecord(**{**fields, **changes})


def steady(middle_ns: float, *, shift: int = 0) -> tuple[float, ...]:
    """Twelve samples within 0.1 %."""
    return tuple(middle_ns * (1 + 0.001 * ((index + shift) % 3 - 1)) for index in range(12))


def comparison(lords_ns: float = 10_000, dense_ns: float = 20_000, **changes: Any) -> list[LatencyRecord]:
    """LoRDS, the dense product and its second samples, taken together."""
    fields: dict[str, Any] = {"comparison_id": f"c-{lords_ns}-{dense_ns}", **changes}
    return [
        make_latency("lords", measurement=make_measurement(*steady(lords_ns)), **fields),
        make_latency("dense", measurement=make_measurement(*steady(dense_ns, shift=1)), **fields),
        make_latency("dense-again", measurement=make_measurement(*steady(dense_ns, shift=2)), **fields),
    ]


def section_of(*ratios: tuple[int, float]) -> DeviceTimes:
    """A section with one comparison per (M, speed-up)."""
    records = [
        record
        for m, speedup in ratios
        for record in comparison(10_000, 10_000 * speedup, case=make_case(m=m), comparison_id=f"m{m}")
    ]
    (section,) = select_devices(records)
    return section


class Silent(Watcher):
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.skipped: list[str] = []
        self.failures: list[str] = []

    def begin(self, name: str) -> None:
        """Note it."""
        self.begun.append(name)

    def end(self, name: str, failures: Sequence[str] | None) -> None:
        """Note what was skipped, and what failed."""
        self.failures += failures or ()
        if failures is None:
            self.skipped.append(name)


def fake_records(
    folder: Path, cases: tuple[LatencyCase, ...], *, regimes: tuple[Regime, ...] = ("cold",), **changes: Any
) -> tuple[LatencyRecord, ...]:
    """Records of a run on the fake device."""
    environment = make_environment(device="cuda", gpu_name=DEVICE_NAME)
    fields: dict[str, Any] = {
        "is_fake": True, "peaks": PEAKS, "environment": environment, "planned_comparisons": len(cases) * len(regimes),
    }  # fmt: skip
    suite = LatencySuite(size="quick", title="a small one", cases=cases)
    with NounStore(folder / "latency.jsonl", LatencyRecord) as store:
        run_latency(
            suite, make_run(**{**fields, **changes}), workbench=FakeWorkbench(policy=BRIEF), regimes=regimes,
            store=store, watcher=Silent(),
        )  # fmt: skip
        return store.records
