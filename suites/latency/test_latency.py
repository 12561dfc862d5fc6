"""The latency suite under pytest-benchmark: `pytest suites/ --benchmark-only --benchmark-json=latency.json`.

pytest-benchmark collects, prints, stores and compares; the samples are those of this project's own protocol, taken in
rounds over all methods of a case, and replayed to it. What a method cannot do is skipped with the reason.
"""

from typing import TYPE_CHECKING

import pytest

from lords_bench.records.codec import encode_line
from lords_bench.records.status import Status
from lords_bench.suites.latency.collector import SESSION, ReplayTimer

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from lords_bench.records.latency import LatencyCase
    from lords_bench.records.measurement import Regime

TIMER = ReplayTimer()


@pytest.mark.benchmark(timer=TIMER)
# A method that failed has nothing to time; its failure says so, and needs no error beside it.
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all")
def test_latency(
    timed: "tuple[LatencyCase, Regime, str]", benchmark: "BenchmarkFixture", request: pytest.FixtureRequest
) -> None:
    """Time one method, or replay it where its comparison has been made."""
    case, regime, method = timed
    record = request.config.stash[SESSION].record(case, regime, method)
    if record.status is Status.UNSUPPORTED:
        pytest.skip(str(record.reason))
    assert record.measurement is not None, f"{record.status}: {record.reason}"
    samples = record.measurement.kept_ns
    benchmark.group = f"{case.case_id} {regime}"
    benchmark.extra_info["lords_bench"] = encode_line(record)
    TIMER.load(samples)
    benchmark.pedantic(lambda: None, rounds=len(samples))
