"""`pytest suites/ --benchmark-only`: pytest-benchmark's JSON carries our samples, and its own tools can compare it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from architecture.import_map import ROOT
from lords_bench.cli.gate.latency_layer import read_benchmark_json, side_of
from lords_bench.errors import RecordError
from lords_bench.records.codec import decode_noun
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.status import Status

CASE = "llama-3-8b/q_proj+o_proj-m1-b4-g64"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One case on the fake device, collected by a pytest process of its own."""
    path = tmp_path_factory.mktemp("collected") / "run.json"
    command = ["suites", "--benchmark-only", f"--benchmark-json={path}", "--latency-fake", "--latency-cases", CASE]
    subprocess.run([sys.executable, "-m", "pytest", *command, "-p", "no:cacheprovider"], cwd=ROOT, check=True)
    return path


def benchmarks(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text())["benchmarks"]
    assert isinstance(found, list)
    return found


def test_every_benchmark_carries_its_record_and_statistics_of_the_same_samples(collected: Path) -> None:
    for benchmark in benchmarks(collected):
        record = decode_noun(benchmark["extra_info"]["lords_bench"], LatencyRecord)
        assert record.measurement is not None
        assert benchmark["stats"]["rounds"] == record.measurement.n
        assert benchmark["stats"]["median"] == pytest.approx(record.measurement.median_ns * 1e-9, rel=1e-9)
        assert f"{record.case.case_id}-{record.regime}-{record.method}" in benchmark["name"]


def test_what_could_not_be_timed_is_among_the_records_with_its_reason(collected: Path) -> None:
    records = read_benchmark_json(collected)

    failed = {(record.method, record.status, record.reason) for record in records if record.status is not Status.OK}
    assert failed == {("gemlite", Status.UNSUPPORTED, "gemlite is not installed; pip install gemlite")}
    timed = [record for record in records if record.status is Status.OK and record.method != "dense-again"]
    assert len(timed) == len(benchmarks(collected))


def test_pytest_benchmark_compares_two_runs(collected: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    again.write_bytes(collected.read_bytes())

    program = Path(sys.executable).with_name("pytest-benchmark")
    done = subprocess.run([program, "compare", collected, again], capture_output=True, text=True, check=True)

    assert f"test_latency[{CASE}-cold-lords]" in done.stdout


def test_a_document_that_is_no_latency_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")

    with pytest.raises(RecordError, match=r"other.json' is no latency run; write one with 'pytest suites/"):
        read_benchmark_json(path)


def test_a_side_that_cannot_be_timed_is_refused_with_what_pytest_said(tmp_path: Path) -> None:
    from lords_bench.errors import UsageError

    with pytest.raises(UsageError, match="failed with exit code"):
        side_of(tmp_path, [])(())
