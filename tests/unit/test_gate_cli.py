"""`lords-bench gate --static`: pins written and compared, exit codes, files, and pins that cannot be believed."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gate_builders import make_fingerprint, true_record, true_samples, uncompiled, write_pins
from lords_bench.cli import main
from lords_bench.gate_cli import accesses_layer, static_layer
from lords_bench.records import RecordStore
from lords_bench.records.fingerprint import Fingerprint


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> list[Fingerprint]:
    """What this tree compiles to, as the command sees it; a test changes the list."""
    found = [make_fingerprint(), make_fingerprint(variant="2 bit M=1"), make_fingerprint(target="sm_80")]
    monkeypatch.setattr(static_layer, "collect", lambda _arguments: tuple(found))
    monkeypatch.setattr(accesses_layer, "collect", lambda _arguments: ())
    return found


def gate(folder: Path, *words: str) -> int:
    return main(["gate", "--out", str(folder), *words])


def test_a_pinned_tree_is_green_and_pinning_again_changes_no_byte(
    tmp_path: Path, head: list[Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(tmp_path, "--pin") == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "static").iterdir()}
    assert "+ rank_expanded 4 bit M=1 on sm_90: new" in capsys.readouterr().out

    assert gate(tmp_path, "--pin") == 0
    assert "the pins are as they were" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (tmp_path / "static").iterdir()} == first
    assert gate(tmp_path, "--static", "--strict") == 0
    assert "3 compared, 3 the same" in capsys.readouterr().out
    assert len(head) == 3


def test_an_unchanged_tree_is_green_twenty_times_of_twenty(tmp_path: Path, head: list[Fingerprint]) -> None:
    write_pins(tmp_path, *head)

    assert [gate(tmp_path, "--static", "--strict") for _ in range(20)] == [0] * 20


def test_a_regression_is_printed_written_and_reverting_it_is_green(
    tmp_path: Path, head: list[Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    write_pins(tmp_path, *head)
    comment, junit = tmp_path / "comment.md", tmp_path / "junit.xml"
    intact = head[0]
    head[0] = make_fingerprint(spills=6)

    code = gate(tmp_path, "--static", "--markdown", str(comment), "--junit", str(junit), "--link-base", "https://x/")

    assert code == 1
    assert "spills appeared: 0 → 6" in capsys.readouterr().out
    assert "❌ **This change makes something worse.**" in comment.read_text()
    assert r"[rank\_expanded 4 bit M=1 on sm\_90](https://x/kernels/rank_expanded/kernel.py)" in comment.read_text()
    suite = ET.parse(junit).getroot().find("testsuite")  # noqa: S314  (our own file)
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    head[0] = intact
    assert gate(tmp_path, "--static") == 0


def test_without_pins_there_is_no_baseline(tmp_path: Path, head: list[Fingerprint]) -> None:
    assert gate(tmp_path, "--static") == 3
    assert len(head) == 3


def test_a_missing_benchmark_fails(tmp_path: Path, head: list[Fingerprint], capsys: pytest.CaptureFixture[str]) -> None:
    write_pins(tmp_path, *head)
    head.pop()

    assert gate(tmp_path, "--static") == 1
    assert "regression: rank_expanded 4 bit M=1 on sm_80: vanished" in capsys.readouterr().out


def test_a_doctored_pin_is_invalid_and_named_by_file_and_line(
    tmp_path: Path, head: list[Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_pins(tmp_path, *head) / "static" / "sm_90.jsonl"
    path.write_text(path.read_text().replace('"registers":128', '"registers":255', 1))

    assert gate(tmp_path, "--static") == 2
    printed = capsys.readouterr().out
    assert "sm_90.jsonl, line 1 is not believed: checksum does not fit the record" in printed
    assert "re-pin with lords-bench gate --static --pin" in printed


def test_a_pin_of_a_stale_schema_is_invalid_and_says_which(
    tmp_path: Path, head: list[Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_pins(tmp_path, *head) / "static" / "sm_80.jsonl"
    envelope = json.loads(path.read_text()) | {"schema": "lords-bench/fingerprint/0.9"}
    path.write_text(json.dumps(envelope) + "\n")

    assert gate(tmp_path, "--static") == 2
    assert "schema 'lords-bench/fingerprint/0.9' has major version 0, this version reads 1" in capsys.readouterr().out


def test_the_selection_leaves_other_pins_alone(tmp_path: Path, head: list[Fingerprint]) -> None:
    write_pins(tmp_path, *head)
    before = (tmp_path / "static" / "sm_90.jsonl").read_text()
    head[:] = [make_fingerprint(registers=126)]

    assert gate(tmp_path, "--pin", "--only", "4 bit", "--targets", "sm_90") == 0

    after = (tmp_path / "static" / "sm_90.jsonl").read_text()
    assert before.splitlines()[1] in after.splitlines()
    assert after != before
    assert gate(tmp_path, "--static", "--only", "4 bit", "--targets", "sm_90") == 0


def test_pinning_what_does_not_compile_is_refused(
    tmp_path: Path, head: list[Fingerprint], capsys: pytest.CaptureFixture[str]
) -> None:
    head.append(uncompiled(variant="3 bit M=1"))

    assert gate(tmp_path, "--pin") == 2
    assert "nothing was pinned: rank_expanded 3 bit M=1 on sm_90 gives compile_error" in capsys.readouterr().err
    assert not (tmp_path / "static").exists()


def test_accuracy_is_judged_by_committed_records_and_a_doctored_line_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, base = tmp_path / "head.jsonl", tmp_path / "records" / "cpu" / "accuracy.jsonl"
    for path in (head, base):
        with RecordStore(path) as store:
            store.append(true_record())

    assert gate(tmp_path, "--accuracy", "--head", str(head)) == 0
    base.write_text(base.read_text().replace('"seed":0', '"seed":7'))
    assert gate(tmp_path, "--accuracy", "--head", str(head)) == 2
    assert "accuracy.jsonl, line 1 is not believed: checksum does not fit" in capsys.readouterr().out
    base.unlink()
    assert gate(tmp_path, "--accuracy", "--head", str(head)) == 3


def test_a_gain_that_is_too_large_is_believed_only_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, head = tmp_path / "records" / "cpu" / "accuracy.jsonl", tmp_path / "head.jsonl"
    better = {
        "window_kl_nats": (0.6, 1.2, 0.3), "window_nll_nats": (149.6, 159.2, 79.8), "layer_squared_error": (0.7, 2.8),
    }  # fmt: skip
    for path, samples in ((base, true_samples()), (head, true_samples(**better))):
        with RecordStore(path) as store:
            store.append(true_record(samples=samples))

    assert gate(tmp_path, "--accuracy", "--head", str(head)) == 2
    assert "a gain of more than 20.0%, is not believed: look for what broke" in capsys.readouterr().out
    assert gate(tmp_path, "--accuracy", "--head", str(head), "--believe", "another") == 2
    assert gate(tmp_path, "--accuracy", "--head", str(head), "--believe", "lords-b4-g64") == 0
