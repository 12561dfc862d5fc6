"""Every page that is made of one record file: the suite's name, its kind of record, and what makes files of them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from lords_bench.records import BenchRecord, LifecycleRecord
from lords_bench.records.check import CheckRecord
from lords_bench.records.cost import CostRecord
from lords_bench.records.latency import LatencyRecord
from lords_bench.report.accuracy.page import accuracy_report
from lords_bench.report.checks import checks_report
from lords_bench.report.cost import cost_report
from lords_bench.report.latency.page import latency_report
from lords_bench.report.lifecycle.page import lifecycle_report

PAGES: Mapping[str, tuple[type[Any], Callable[..., dict[str, str]]]] = MappingProxyType(
    {
        "accuracy": (BenchRecord, accuracy_report),
        "latency": (LatencyRecord, latency_report),
        "lifecycle": (LifecycleRecord, lifecycle_report),
        "cost": (CostRecord, cost_report),
        "checks": (CheckRecord, checks_report),
    }
)
