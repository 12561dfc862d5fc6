"""Latency records in the JSON of pytest-benchmark, so that `pytest-benchmark compare` and its histograms read them.

One benchmark per measurement; its group is the comparison it was taken in, so that `--group-by=group` puts methods of
one product beside each other. Times are in seconds, as that format has them. Dropped samples are not in it.
"""

from collections.abc import Iterable
from statistics import fmean, stdev
from typing import Any

from lords_bench.errors import RecordError
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.measurement import Measurement, quantile

# The format's version that this writes; pytest-benchmark reads any.
FORMAT_VERSION = "5.0.0"


def benchmark_json(records: Iterable[LatencyRecord]) -> dict[str, Any]:
    """The records of the newest run that have samples.

    Raises:
        RecordError: no record has samples.
    """
    measured = [record for record in records if record.measurement is not None]
    if not measured:
        raise RecordError("no latency record has samples to export; run 'lords-bench bench latency' first")
    newest = max(measured, key=lambda record: record.created_utc)
    environment = newest.run.environment
    members = [record for record in measured if record.run.comparison_key == newest.run.comparison_key]
    latest = {(record.case.case_id, record.regime, record.method): record for record in members}
    return {
        "machine_info": {
            "node": environment.hostname_sha256 or "unknown",
            "machine": environment.device_name,
            "system": environment.platform,
            "python_version": environment.python,
            "cpu": {"brand_raw": environment.cpu_model},
            "gpu": environment.gpu_name,
            "is_fake": newest.run.is_fake,
        },
        "commit_info": {
            "id": environment.git_commit or "unknown",
            "dirty": environment.git_dirty,
            "time": newest.created_utc,
            "project": "lords_bench",
            "branch": "unknown",
        },
        "benchmarks": [_benchmark(record, record.measurement) for record in latest.values() if record.measurement],
        "datetime": newest.created_utc,
        "version": FORMAT_VERSION,
    }


def _benchmark(record: LatencyRecord, measured: Measurement) -> dict[str, Any]:
    case = record.case
    return {
        "group": f"{case.case_id} {record.regime}",
        "name": f"{case.case_id}[{record.method}-{record.regime}]",
        "fullname": f"latency/{case.case_id}[{record.method}-{record.regime}]",
        "params": {
            "m": case.m, "n": case.n, "k": case.k, "bits": case.bits, "block": case.block, "method": record.method,
            "regime": record.regime,
        },
        "param": f"{record.method}-{record.regime}",
        "extra_info": {
            "kernel": record.kernel, "config": dict(record.config), "config_origin": record.config_origin,
            "bits_per_weight": record.bits_per_weight, "timer": measured.timer, "protocol": measured.protocol,
            "clock_mhz": measured.median_clock_mhz,
        },
        "options": {
            "disable_gc": False, "timer": measured.timer, "min_rounds": measured.n, "max_time": 0.0, "min_time": 0.0,
            "warmup": True,
        },
        "stats": _stats(measured),
    }  # fmt: skip


def _stats(measured: Measurement) -> dict[str, Any]:
    samples = tuple(value * 1e-9 for value in measured.kept_ns)
    mean = fmean(samples)
    deviation = stdev(samples) if len(samples) > 1 else 0.0
    q1, q3 = quantile(samples, 0.25), quantile(samples, 0.75)
    spread = q3 - q1
    low, high = q1 - 1.5 * spread, q3 + 1.5 * spread
    inside = [value for value in samples if low <= value <= high]
    iqr_outliers = len(samples) - len(inside)
    far = sum(abs(value - mean) > deviation for value in samples)
    return {
        "min": min(samples), "max": max(samples), "mean": mean, "stddev": deviation, "rounds": len(samples),
        "median": quantile(samples, 0.5), "iqr": spread, "q1": q1, "q3": q3, "iqr_outliers": iqr_outliers,
        "stddev_outliers": far, "outliers": f"{far};{iqr_outliers}", "ld15iqr": min(inside), "hd15iqr": max(inside),
        "ops": 1 / mean, "total": sum(samples), "data": list(samples), "iterations": measured.launches_per_sample,
    }  # fmt: skip
