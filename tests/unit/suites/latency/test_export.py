"""pytest-benchmark reads what is exported, and its numbers are those of the records."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latency_builders import comparison, make_latency, make_measurement
from lords_bench.cli import main
from lords_bench.errors import RecordError
from lords_bench.records.codec import encode_line
from lords_bench.records.status import Status
from lords_bench.suites.latency.export import benchmark_json


def test_pytest_benchmark_compares_an_exported_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pytest_benchmark")
    records, out = tmp_path / "latency.jsonl", tmp_path / "0001_exported.json"
    records.write_text("".join(f"{encode_line(record)}\n" for record in comparison()))
    assert main(["export", str(records), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"

    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(out), "--group-by=group", "--columns=median,rounds"],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip

    assert "llama-3-8b/o_proj-m16-b4-g64[lords-cold]" in compared.stdout
    assert "20.0" in compared.stdout  # µs of the dense product


def test_times_are_in_seconds_and_dropped_samples_are_left_out() -> None:
    record = make_latency(measurement=make_measurement(1000.0, 2000.0, 3000.0))

    (found,) = benchmark_json([record])["benchmarks"]

    assert found["stats"]["median"] == pytest.approx(2e-6)
    assert found["stats"]["data"] == pytest.approx([1e-6, 2e-6, 3e-6])
    assert json.dumps(found)


def test_what_has_no_samples_is_not_exported() -> None:
    failed = make_latency("dense", status=Status.CRASH)

    assert [b["params"]["method"] for b in benchmark_json([make_latency(), failed])["benchmarks"]] == ["lords"]
    with pytest.raises(RecordError, match="no latency record has samples"):
        benchmark_json([failed])
