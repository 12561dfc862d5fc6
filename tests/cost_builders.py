"""Valid check and cost records with defaults; a test overrides what it is about."""

from typing import Any

from lords_bench.records.check import CheckRecord
from lords_bench.records.cost import CostRecord, CostRun
from lords_bench.records.measurement import Measurement
from lords_bench.records.status import Status
from record_builders import make_environment


def make_check(**changes: Any) -> CheckRecord:
    """A right result of one kernel on a fictional GPU."""
    fields: dict[str, Any] = {
        "tool": "float64",
        "kernel": "scale_tile",
        "case": "m1-n256-k1024-b4-r16-bfloat16",
        "status": Status.OK,
        "worst": 0.25,
        "environment": make_environment(device="cuda", gpu_name="Example GPU"),
        "created_utc": "2026-01-31T12:00:00Z",
        "command": "lords-bench kernels --check",
    }
    return CheckRecord(**{**fields, **changes})


def make_cost_run(**changes: Any) -> CostRun:
    """The whole of a fictional model on a fictional GPU."""
    fields: dict[str, Any] = {
        "run_id": "run",
        "model": "llama-3-8b",
        "scale": 1,
        "settings": (("bits", 4), ("blocks", None)),
        "planned": 2,
        "environment": make_environment(device="cuda", gpu_name="Example GPU"),
        "command": "lords-bench bench ptq",
        "seed": 0,
    }
    return CostRun(**{**fields, **changes})


def make_ptq(case: str = "lords/layer", **changes: Any) -> CostRecord:
    """A quantized layer."""
    fields: dict[str, Any] = {
        "run": make_cost_run(),
        "suite": "ptq",
        "case": case,
        "method": "lords",
        "shape": (4096, 4096),
        "status": Status.OK,
        "seconds": 0.5,
        "held_bytes": 2**20,
        "peak_bytes": 2**30,
        "facts": (("bits_per_weight", 4.25), ("rank", 32), ("relative_squared_error", 0.007)),
        "created_utc": "2026-01-31T12:00:00Z",
    }
    return CostRecord(**{**fields, **changes})


def make_step(method: str, milliseconds: float, **changes: Any) -> CostRecord:
    """A step of a method with ten equal samples."""
    samples = (milliseconds * 1e6,) * 10
    fields: dict[str, Any] = {
        "run": make_cost_run(model="llama-3.2-1b", command="lords-bench bench step"),
        "suite": "step",
        "case": method,
        "method": method,
        "status": Status.OK,
        "seconds": milliseconds / 1e3,
        "measurement": Measurement(
            regime="eager", timer="perf-counter", samples_ns=samples, clock_mhz=(None,) * len(samples)
        ),
        "noise_floor": 0.01,
        "held_bytes": 2**30,
        "peak_bytes": 2**30,
        "facts": (("trained_values", 1000),),
        "created_utc": "2026-01-31T12:00:00Z",
    }
    return CostRecord(**{**fields, **changes})
