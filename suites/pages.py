"""Every page that is made of one record file: the suite's name, its kind of record, and what makes a page of them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from lords_bench.records import BenchRecord, LifecycleRecord
from lords_bench.records.check import CheckRecord
from lords_bench.records.cost import CostRecord
from lords_bench.records.latency import LatencyRecord
from lords_bench.report.checks import checks_page
from lords_bench.report.document import Document
from lords_bench.suites.accuracy.page import accuracy_page
from lords_bench.suites.cost.page import cost_page
from lords_bench.suites.latency.page import latency_page
from lords_bench.suites.lifecycle.page import lifecycle_page

PAGES: Mapping[str, tuple[type[Any], Callable[..., Document]]] = MappingProxyType(
    {
        "accuracy": (BenchRecord, accuracy_page),
        "latency": (LatencyRecord, latency_page),
        "lifecycle": (LifecycleRecord, lifecycle_page),
        "cost": (CostRecord, cost_page),
        "checks": (CheckRecord, checks_page),
    }
)
