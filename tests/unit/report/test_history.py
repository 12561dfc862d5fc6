"""The history page: one line per device and case, steps named by their commit, the same bytes for the same records."""

from pathlib import Path

import pytest

from latency_builders import make_latency, make_measurement, make_run, steady
from lords_bench.cli import main
from lords_bench.errors import RecordError, UsageError
from lords_bench.records import BenchRecord, RecordStore
from lords_bench.report.history import HISTORY_METRICS, history_page, history_series
from lords_bench.report.render import page_files
from record_builders import make_environment, make_record, make_samples


def measured(index: int, kl: float, *, cpu: str = "Example CPU 9000") -> BenchRecord:
    environment = make_environment(git_commit=f"{index}" * 40, cpu_model=cpu)
    samples = make_samples(window_kl_nats=(kl, kl, kl / 2))
    return make_record(environment=environment, samples=samples, created_utc=f"2026-01-0{index + 1}T12:00:00Z")


def history(*, cpu: str = "Example CPU 9000") -> list[BenchRecord]:
    return [measured(index, 1.0 if index < 4 else 1.2, cpu=cpu) for index in range(8)]


def test_a_step_is_named_by_the_first_commit_of_the_new_level() -> None:
    page = page_files(history_page("kl", history()))["history-kl.md"]

    assert "| lords-b4-g64 | 8 | 10.00 | 12.00 | +20.0 % at 4444444 |" in page


def test_points_are_in_the_order_of_time_whatever_the_order_of_records() -> None:
    assert page_files(history_page("kl", reversed(history()))) == page_files(history_page("kl", history()))


def test_two_devices_are_two_series_and_two_figures() -> None:
    files = page_files(history_page("kl", [*history(), *history(cpu="Other CPU")]))

    assert sorted(files) == ["history-kl-1.svg", "history-kl-2.svg", "history-kl.html", "history-kl.md"]
    assert files["history-kl.md"].count("\n## ") == 3  # the last one says how to read the page
    assert [
        len(one.points) for one in history_series(HISTORY_METRICS["kl"], [*history(), measured(8, 1, cpu="O")])
    ] == [
        8,
        1,
    ]


def test_latency_is_a_series_per_case_method_and_regime() -> None:
    records = [
        make_latency(
            run=make_run(environment=make_environment(device="cuda", gpu_name="Example GPU", git_commit=f"{i}" * 40)),
            measurement=make_measurement(*steady(10_000 if i < 3 else 9_000)),
            created_utc=f"2026-01-0{i + 1}T12:00:00Z",
        )
        for i in range(6)
    ]

    page = page_files(history_page("latency", records))["history-latency.md"]

    assert "lords (cold) | 6 | 10.00 | 9.000 | −10.0 % at 3333333 |" in page


def test_a_changed_tree_is_marked() -> None:
    record = make_record(environment=make_environment(git_dirty=True))
    (series,) = history_series(HISTORY_METRICS["kl"], [record])

    assert series.points[0].label == "0123456+"


def test_an_unknown_metric_and_missing_records_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown history metric 'speed'; known: kl, bits_per_byte"):
        page_files(history_page("speed", history()))
    with pytest.raises(RecordError, match="no record has the metric 'latency'; run 'lords-bench bench latency' first"):
        page_files(history_page("latency", history()))


def test_the_command_writes_the_page_of_each_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RecordStore(tmp_path / "records" / "cpu" / "accuracy.jsonl") as store:
        for record in history():
            store.append(record)

    assert main(["report", "--out", str(tmp_path), "--history", "weight_error"]) == 0

    assert "history-weight_error.md" in capsys.readouterr().out
    assert (tmp_path / "cpu" / "history-weight_error-1.svg").read_text().startswith("<svg")
