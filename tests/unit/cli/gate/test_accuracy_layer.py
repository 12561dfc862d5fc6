"""`lords-bench gate --accuracy`: whose records are compared, with committed ones and with a commit measured here."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gate_builders import true_record, true_samples
from lords_bench.cli import main
from lords_bench.cli.gate import accuracy_layer
from lords_bench.cli.gate.worktree import Checkout
from lords_bench.errors import UsageError
from lords_bench.quant import QuantSpec
from lords_bench.records import BenchRecord, RecordStore
from lords_bench.source import package_sha256
from record_builders import make_environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORSE = true_samples(layer_stored_bytes=(9216, 36864))


def record(case_id: str = "a", *, source: str | None = None, **changes: Any) -> BenchRecord:
    """A record of this tree, or of another state of it."""
    environment = make_environment(source_sha256=source or package_sha256(), git_commit=COMMIT)
    return true_record(case_id, environment=environment, **{"planned_case_ids": (case_id,), **changes})


class Measured:
    """Stands for the processes that measure: what each folder's file of records holds, and who was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, list[BenchRecord]] = {}
        self.asked: list[str] = []

    def __call__(self, _tree: Path, name: str, _arguments: argparse.Namespace) -> Path:
        self.asked.append(name)
        path = self.folder / f"{name}.jsonl"
        with RecordStore(path) as store:
            for item in self.records[name]:
                store.append(item)
        return path


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    @contextmanager
    def checked_out(_reference: str) -> Iterator[Checkout]:
        yield Checkout(tree=tmp_path, commit=COMMIT)

    found = Measured(tmp_path)
    monkeypatch.setattr(accuracy_layer, "measure", found)
    monkeypatch.setattr(accuracy_layer, "checked_out", checked_out)
    monkeypatch.setattr(accuracy_layer, "same_accuracy", lambda _head, _baseline: False)
    return found


def gate(*words: str) -> int:
    return main(["gate", "--accuracy", "--baseline", "main", *words])


def test_a_commit_is_measured_here_and_a_loss_against_it_is_a_regression(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    measured.records = {"gate-head": [record(samples=WORSE)], f"gate-{COMMIT[:12]}": [record()]}

    assert gate() == 1
    # No place of a record: nobody else has the file.
    assert "regression: a: bits per weight 4.250 → 4.500 (+0.250), +2560 bytes\n" in capsys.readouterr().out
    assert measured.asked == ["gate-head", f"gate-{COMMIT[:12]}"]


def test_after_a_revert_the_records_of_the_tree_as_it_is_count_and_not_the_last_ones(measured: Measured) -> None:
    broken = record(source="f" * 64, samples=WORSE)
    measured.records = {"gate-head": [record(), broken], f"gate-{COMMIT[:12]}": [record()]}

    assert gate() == 0


def test_a_case_that_the_commit_does_not_have_is_new_and_no_failure(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    measured.records = {"gate-head": [record(), record("b")], f"gate-{COMMIT[:12]}": [record()]}

    assert gate("--strict") == 0
    assert "note: b: is new: the baseline commit has no such case" in capsys.readouterr().out


def test_a_case_that_only_the_commit_has_vanished(measured: Measured) -> None:
    measured.records = {"gate-head": [record()], f"gate-{COMMIT[:12]}": [record(), record("b")]}

    assert gate() == 1


def test_records_of_another_commit_than_the_one_asked_for_are_refused(measured: Measured) -> None:
    other = true_record("a", environment=make_environment(git_commit="9" * 40))
    measured.records = {"gate-head": [record()], f"gate-{COMMIT[:12]}": [other]}

    with pytest.raises(UsageError, match="measuring 0123456789ab gave no record of it"):
        main(["gate", "--accuracy", "--baseline", "main", "--debug"])


def test_equal_code_is_not_measured_says_so_and_is_measured_when_asked(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accuracy_layer, "same_accuracy", lambda _head, _baseline: True)
    measured.records = {"gate-head": [record()], f"gate-{COMMIT[:12]}": [record()]}

    assert gate("--methods", "nf4") == 0
    assert "note: accuracy: same without measuring, 3 cases against 0123456789ab" in capsys.readouterr().out
    assert measured.asked == []
    assert gate("--measure-anyway") == 0
    assert len(measured.asked) == 2


def test_a_selection_leaves_the_other_cases_of_the_baseline_alone(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The committed records are of a run of more cases; those not asked for neither vanish nor are missed."""
    committed = tmp_path / "records" / "cpu" / "accuracy.jsonl"
    planned = ("lords-b4-g64", "nf3-b3-g64", "nf2-b2-g64")
    with RecordStore(committed) as store:
        store.append(true_record("lords-b4-g64", planned_case_ids=planned))
        store.append(true_record("nf3-b3-g64", planned_case_ids=planned, bits=3, spec=QuantSpec(method="nf3", bits=3)))
    head = tmp_path / "head.jsonl"
    with RecordStore(head) as store:
        store.append(true_record("lords-b4-g64", planned_case_ids=planned))

    words = ["gate", "--accuracy", "--out", str(tmp_path), "--head", str(head)]
    assert main([*words, "--methods", "lords", "--bits", "4"]) == 0
    assert "1 compared, 1 the same" in capsys.readouterr().out
    assert main(words) == 1
    assert measured.asked == []


def test_bits_that_are_no_numbers_are_refused(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gate("--bits", "four")

    assert "argument --bits: 'four' is no whole number from 2 to 4" in capsys.readouterr().err
    assert measured.asked == []


def test_one_file_cannot_be_the_baseline_of_two_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records.jsonl"
    path.touch()

    assert main(["gate", "--accuracy", "--latency", "--baseline", str(path)]) == 2
    assert "is a file of one layer's records; run the layers one by one" in capsys.readouterr().err
