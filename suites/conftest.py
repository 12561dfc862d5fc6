"""`pytest suites/ --benchmark-only`: the latency suite as pytest-benchmark sees it, and what its JSON carries besides.

Each benchmark's `extra_info` holds its whole record, samples included; the document's `lords_bench` holds the records
of everything that was tried, failures too, so that a gate sees what is missing and why.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from lords_bench.records.codec import encode_line
from lords_bench.records.environment import Device
from lords_bench.suites.latency.collector import SESSION, LatencySession


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the collector."""
    group = parser.getgroup("lords_bench")
    group.addoption("--latency-fake", action="store_true", help="made-up numbers of a fake GPU, to try the software")
    group.addoption(
        "--latency-device", choices=("cpu", "cuda"), help="where to time (default: cuda where there is one)"
    )
    group.addoption("--latency-cases", default="", metavar="ID,…", help="these cases only")


def pytest_configure(config: pytest.Config) -> None:
    """Decides on the device once; a library must not ask the hub for code while it is timed."""
    import tempfile

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    config.stash[SESSION] = LatencySession(
        fake=config.getoption("--latency-fake"),
        device=config.getoption("--latency-device") or _default_device(),
        folder=Path(tempfile.mkdtemp(prefix="lords-bench-latency-")),
        command=shlex.join(["pytest", *sys.argv[1:]]),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case, regime and method, in the order in which they are timed."""
    if "timed" not in metafunc.fixturenames:
        return
    session = metafunc.config.stash[SESSION]
    case_ids = tuple(name for name in metafunc.config.getoption("--latency-cases").split(",") if name)
    benchmarks = session.benchmarks(case_ids)
    ids = [f"{case.case_id}-{regime}-{method}" for case, regime, method in benchmarks]
    metafunc.parametrize("timed", benchmarks, ids=ids)


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: object, output_json: dict[str, Any]) -> None:
    """Every record of this process, as lines of a record file."""
    del benchmarks
    output_json["lords_bench"] = [encode_line(record) for record in config.stash[SESSION].records]


def _default_device() -> Device:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
