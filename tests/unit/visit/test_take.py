"""What a visit brought back is believed whole or not at all, and lands where reports are rebuilt from."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cost_builders import make_check, make_cost_run, make_ptq
from latency_builders import make_latency
from lords_bench.cli import main
from lords_bench.errors import RecordError, StoreError, UsageError
from lords_bench.records.codec import encode_line
from lords_bench.records.cost import CostRecord
from lords_bench.records.journal import Journal
from lords_bench.records.lines import folder_lock
from lords_bench.records.store import NounStore, read_nouns
from lords_bench.records.tuned import TunedEntry
from lords_bench.visit.pack import pack
from lords_bench.visit.take import take
from record_builders import make_environment
from tuned_builders import make_entry


def write(path: Path, *records: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{encode_line(record)}\n" for record in records))


@pytest.fixture
def visit(tmp_path: Path) -> Path:
    out = tmp_path / "visit"
    write(out / "reports/records/example-gpu/checks.jsonl", make_check())
    write(out / "reports/records/example-gpu/cost.jsonl", make_ptq("a"), make_ptq("b"))
    (out / "visit.jsonl").write_text('{"name": "env", "ending": "ok", "seconds": 1.0, "exit_code": 0, "why": null}\n')
    (out / "model").mkdir()
    (out / "model" / "training.json").write_text('{"steps": 1}')
    return out


@pytest.fixture
def tabled_visit(visit: Path) -> Path:
    """A visit that brought a table too."""
    entry = make_entry()
    own = replace(entry, key=replace(entry.key, machine=replace(entry.key.machine, gpu="Example GPU")))
    write(visit / "tuned/example-gpu/tuned.jsonl", own)
    return visit


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_records_and_log_land_below_the_device_and_a_second_taking_adds_nothing(visit: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"

    first = take(pack(visit, tmp_path / "visit.tar.gz"), out)
    before = files(out)
    second = take(visit, out)

    assert first.device == "example-gpu"
    assert {path.name: count for path, count in first.lines.items()} == {
        "checks.jsonl": 1, "cost.jsonl": 2, "visit.jsonl": 1
    }  # fmt: skip
    assert set(second.lines.values()) == {0}
    assert files(out) == before
    assert (out / "records/example-gpu/cost.jsonl").read_bytes() == (
        visit / "reports/records/example-gpu/cost.jsonl"
    ).read_bytes()
    assert (out / "records/example-gpu/testbed.json").read_text() == '{\n "steps": 1\n}\n'


def test_what_an_earlier_visit_brought_stays_before_what_comes(visit: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    write(out / "records/example-gpu/cost.jsonl", make_ptq("earlier"))

    take(visit, out)

    lines = (out / "records/example-gpu/cost.jsonl").read_text().splitlines()
    assert lines == [encode_line(make_ptq(case)) for case in ("earlier", "a", "b")]


def test_pages_are_rebuilt_byte_for_byte_from_what_was_taken(visit: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    take(visit, out)

    codes = [main(["report", "--out", str(out)])]
    first = files(out / "example-gpu")
    codes.append(main(["report", "--out", str(out)]))

    assert codes == [0, 0]
    assert {"cost.md", "checks.md"} <= set(first)
    assert files(out / "example-gpu") == first


@pytest.mark.parametrize(
    ("name", "records", "message"),
    [
        ("example-gpu/cost.jsonl", (make_ptq(run=make_cost_run(environment=make_environment())),), "of a processor"),
        ("other-gpu/cost.jsonl", (make_ptq(),), "of other-gpu holds a record of Example GPU"),
        ("example-gpu/unknown.jsonl", (make_ptq(),), "is no record file"),
        ("example-gpu/latency.jsonl", (make_ptq(),), "line 1, is not believed"),
    ],
    ids=["processor", "other device", "unknown file", "other kind"],
)
def test_foreign_records_are_refused_and_nothing_is_written(
    name: str, records: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "visit/reports/records" / name, *records)

    with pytest.raises(RecordError, match=message):
        take(tmp_path / "visit", tmp_path / "reports")

    assert not (tmp_path / "reports").exists()


def test_one_edited_line_refuses_the_whole(visit: Path, tmp_path: Path) -> None:
    path = visit / "reports/records/example-gpu/cost.jsonl"
    path.write_text(path.read_text().replace('"seconds":0.5', '"seconds":0.4', 1))

    with pytest.raises(RecordError, match=r"cost.jsonl, line 1, is not believed: checksum"):
        take(visit, tmp_path / "reports")

    assert not (tmp_path / "reports").exists()


def test_made_up_numbers_are_taken_only_when_asked_for(tmp_path: Path) -> None:
    record = make_latency()
    fake = replace(record, run=replace(record.run, is_fake=True))
    device = fake.run.environment.device_slug
    write(tmp_path / "visit/reports/records" / device / "latency.jsonl", fake)

    with pytest.raises(RecordError, match="made-up numbers of a fake device"):
        take(tmp_path / "visit", tmp_path / "reports")

    assert take(tmp_path / "visit", tmp_path / "reports", fake_too=True).device == device


def test_a_table_of_another_gpu_is_refused_and_the_device_s_own_is_taken(visit: Path, tmp_path: Path) -> None:
    entry = make_entry()
    own = replace(entry, key=replace(entry.key, machine=replace(entry.key.machine, gpu="Example GPU")))
    write(visit / "tuned/example-gpu/tuned.jsonl", own)

    take(visit, tmp_path / "reports")

    assert (tmp_path / "reports/tuned/example-gpu/tuned.jsonl").is_file()
    write(visit / "tuned/example-gpu/tuned.jsonl", own, entry)
    with pytest.raises(RecordError, match="not of example-gpu; nothing is taken"):
        take(visit, tmp_path / "again")


@pytest.mark.parametrize("writer", ["records", "tuned"])
def test_a_folder_that_someone_writes_to_refuses_the_taking_with_the_process_and_nothing_is_written(
    writer: str, tabled_visit: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reports"
    (out / writer / "example-gpu").mkdir(parents=True)

    with (
        folder_lock(out / writer / "example-gpu"),
        pytest.raises(StoreError, match=f"{writer}/example-gpu' is being written by process {os.getpid()}; wait"),
    ):
        take(tabled_visit, out)

    assert [path for path in files(out) if not path.endswith(".lock")] == []


def test_a_run_that_appends_while_another_takes_loses_no_record(tabled_visit: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    path = out / "records/example-gpu/cost.jsonl"

    with NounStore(path, CostRecord) as store:
        store.append(make_ptq("before"))
        with pytest.raises(StoreError):
            take(tabled_visit, out)
        store.append(make_ptq("after"))
    take(tabled_visit, out)

    found = read_nouns(path, CostRecord)
    assert [record.case for record in found.records] == [make_ptq(name).case for name in ("before", "after", "a", "b")]


def test_a_table_that_is_being_added_to_while_another_takes_loses_no_row(tabled_visit: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    entry = make_entry()
    path = out / "tuned/example-gpu/tuned.jsonl"

    with Journal(path, TunedEntry) as journal:
        journal.append(entry)
        take(tabled_visit, out)
        journal.append(entry)

    assert [row.key.machine.gpu == "Example GPU" for row in read_nouns(path, TunedEntry).records] == [
        False, True, False
    ]  # fmt: skip


def test_an_empty_visit_or_one_of_two_devices_is_refused(visit: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="records of 0 devices"):
        take(tmp_path / "empty", tmp_path / "reports")
    write(visit / "reports/records/second-gpu/cost.jsonl", make_ptq())
    with pytest.raises(UsageError, match="records of 2 devices"):
        take(visit, tmp_path / "reports")


def test_the_command_says_whether_the_source_is_this_checkout_s(
    visit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["gpu", "--take", str(visit), "--out", str(tmp_path / "reports")])

    out = capsys.readouterr().out
    assert code == 0
    assert "2 new lines in" in out
    assert "Made with other source than this checkout's" in out
    assert "555555555555" in out
