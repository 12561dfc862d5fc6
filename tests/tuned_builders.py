"""Entries of tuned tables for tests."""

from dataclasses import replace
from typing import Any

from lords_bench.records.tuned import Choice, Machine, Problem, Speedup, Summary, TunedEntry, TunedKey

MACHINE = Machine(gpu="Some GPU 80GB", capability=(9, 0), multiprocessors=132, driver="570.1", triton="3.6.0")

PROBLEM = Problem(
    m_bucket=1, n=4096, k=4096, bits=4, rank=16, x_dtype="bfloat16", scale_dtype="float16", decoder="grid7"
)

KEY = TunedKey(kernel="scale_tile", source_sha256="ab" * 32, problem=PROBLEM, machine=MACHINE)

SUMMARY = Summary(samples=30, median_ns=8000.0, low_ns=7950.0, high_ns=8100.0)


def make_key(
    *, kernel: str = "scale_tile", source: str = "ab" * 32, machine: Machine = MACHINE, **problem: Any
) -> TunedKey:
    return TunedKey(kernel=kernel, source_sha256=source, problem=replace(PROBLEM, **problem), machine=machine)


def make_entry(**changes: Any) -> TunedEntry:
    """An entry that is 25 % faster than the default."""
    values: dict[str, Any] = {
        "key": KEY,
        "choice": Choice(kernel="scale_tile", settings=(("block_n", 128), ("last_sums", True))),
        "default": Choice(kernel="scale_tile", settings=(("block_n", 64), ("last_sums", True))),
        "measured": SUMMARY,
        "default_measured": Summary(samples=30, median_ns=10000.0, low_ns=9900.0, high_ns=10100.0),
        "speedup": Speedup(median=1.25, low=1.24, high=1.26),
        "regime": "cold",
        "timer": "graph",
        "measured_on": "2026-11-22",
    }
    return TunedEntry(**{**values, **changes})
