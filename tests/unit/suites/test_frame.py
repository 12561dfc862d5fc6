"""A data frame and a CSV file hold what the records hold, with the numbers that a page would show."""

import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from latency_builders import comparison
from lords_bench.cli import main
from lords_bench.errors import RecordError
from lords_bench.records.codec import encode_line
from lords_bench.suites.accuracy.metrics import METRICS
from lords_bench.suites.frame import read_frame
from record_builders import make_record, study

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "reports" / "records"


def write(path: Path, records: list[object]) -> Path:
    path.write_text("".join(f"{encode_line(record)}\n" for record in records))
    return path


def test_a_row_holds_the_record_and_its_metrics_with_intervals(tmp_path: Path) -> None:
    records = study()
    frame = read_frame(write(tmp_path / "accuracy.jsonl", list(records)))

    assert list(frame["case_id"]) == [record.case_id for record in records]
    for row, record in zip(frame.to_dict("records"), records, strict=True):
        assert record.samples is not None
        interval = METRICS["kl"].estimator.interval(record.samples)
        assert interval is not None
        assert (row["kl"], row["kl.low"], row["kl.high"]) == (interval.estimate, interval.low, interval.high)
        assert row["environment.torch"] == record.environment.torch
        assert row["samples.window_kl_nats"] == list(record.samples.window_kl_nats)


def test_times_have_their_medians_beside_their_samples(tmp_path: Path) -> None:
    frame = read_frame(write(tmp_path / "latency.jsonl", list(comparison(lords_ns=10_000, dense_ns=20_000))))

    medians = frame.set_index("method")["measurement.median_ns"]
    assert medians["dense"] / medians["lords"] == pytest.approx(2.0, rel=0.01)
    assert all(len(samples) >= 6 for samples in frame["measurement.samples_ns"])


def test_the_command_writes_a_csv_with_lists_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = write(tmp_path / "accuracy.jsonl", [make_record()])
    out = tmp_path / "accuracy.csv"

    assert main(["export", str(records), str(out)]) == 0

    row = pd.read_csv(StringIO(out.read_text())).iloc[0]
    assert row["case_id"] == make_record().case_id
    assert json.loads(row["samples.layer_names"]) == list(make_record().samples.layer_names)
    assert str(out) in capsys.readouterr().out


def test_a_damaged_line_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = write(tmp_path / "accuracy.jsonl", [make_record()])
    records.write_text(records.read_text() + records.read_text().replace('"seed":0', '"seed":1'))
    out = tmp_path / "accuracy.csv"

    assert main(["export", str(records), str(out)]) == 0

    assert len(pd.read_csv(out)) == 1
    assert "line 2, is not used: checksum does not fit" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(COMMITTED.glob("*/*.jsonl")), ids=str)
def test_every_committed_record_is_a_row(path: Path) -> None:
    assert len(read_frame(path)) == len(path.read_text().splitlines())


@pytest.mark.parametrize(("content", "why"), [("", "it is empty"), ("hello\n", "not a JSON record")])
def test_a_file_without_records_is_refused(content: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(content)

    with pytest.raises(RecordError, match=f"holds no record: {why}"):
        read_frame(path)


def test_a_name_of_no_known_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = write(tmp_path / "accuracy.jsonl", [make_record()])

    assert main(["export", str(records), str(tmp_path / "out.xlsx")]) == 2
    assert "give a name that ends in .csv or .json" in capsys.readouterr().err
