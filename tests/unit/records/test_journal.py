import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lords_bench.errors import StoreError
from lords_bench.records import BenchRecord
from lords_bench.records import journal as journal_module
from lords_bench.records.codec import encode_line
from lords_bench.records.journal import Journal, read_journal
from lords_bench.records.lines import folder_lock
from record_builders import make_record

WRITE_TEN = """
import sys
from pathlib import Path
from lords_bench.records.journal import Journal
from lords_bench.records import BenchRecord
from record_builders import make_record
with Journal(Path(sys.argv[1]), BenchRecord) as journal:
    for number in range(10):
        journal.append(make_record(run_id=f"{sys.argv[2]}-{number}"))
"""

WRITE_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
from lords_bench.errors import StoreError
from lords_bench.records.journal import Journal
from lords_bench.records import BenchRecord
from record_builders import make_record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
with Journal(Path(sys.argv[1]), BenchRecord) as journal:
    try:
        for number in range(1000):
            journal.append(make_record(run_id=f"run-{number}"))
    except StoreError as error:
        print(error)
"""


def python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    records = [make_record(run_id=f"run-{number}") for number in range(3)]

    with Journal(tmp_path / "new" / "a.jsonl", BenchRecord) as journal:
        for record in records:
            journal.append(record)

    assert read_journal(journal.path, BenchRecord).records == tuple(records)


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none.jsonl", BenchRecord).records == ()


def test_eight_processes_writing_one_journal_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    writers = [python(WRITE_TEN, str(path), str(number)) for number in range(8)]

    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0] * 8
    found = read_journal(path, BenchRecord)
    assert found.rejected == ()
    assert sorted(noun.run_id for noun in found.records) == sorted(f"{w}-{n}" for w in range(8) for n in range(10))


def test_a_torn_tail_is_set_aside_by_the_next_row_even_of_a_writer_that_is_already_open(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl", BenchRecord) as journal:
        journal.append(make_record(run_id="first"))
        with journal.path.open("ab") as killed:
            killed.write(b'{"schema":"lords-b')
        torn = read_journal(journal.path, BenchRecord)
        journal.append(make_record(run_id="second"))

    assert [(item.line, item.reason) for item in torn.rejected] == [
        (2, "torn line of 18 bytes, left by a run that was killed")
    ]
    assert [noun.run_id for noun in read_journal(journal.path, BenchRecord).records] == ["first", "second"]
    assert (tmp_path / "a.jsonl.rejected").read_bytes() == b'{"schema":"lords-b\n'


def test_a_row_goes_to_the_file_that_replaced_the_one_that_was_opened(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl", BenchRecord) as journal:
        journal.append(make_record(run_id="first"))
        other = tmp_path / "other"
        other.write_bytes(journal.path.read_bytes())
        other.replace(journal.path)
        journal.append(make_record(run_id="second"))

    assert [noun.run_id for noun in read_journal(journal.path, BenchRecord).records] == ["first", "second"]


def test_a_row_waits_for_no_longer_than_agreed_for_who_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "WAIT_SECONDS", 0.02)

    with (
        Journal(tmp_path / "a.jsonl", BenchRecord) as journal,
        folder_lock(tmp_path),
        pytest.raises(StoreError, match=f"is being written by process {os.getpid()}; wait for that run"),
    ):
        journal.append(make_record())

    assert journal.path.read_bytes() == b""


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda line: line.replace(b'"seed":0', b'"seed":1'), "checksum does not fit"),
        (lambda line: line[: len(line) // 2], "not a JSON record"),
        (lambda line: line.replace(b"/record/1.", b"/record/9."), "major version 9"),
        (lambda line: line.replace(b"lords-bench/record", b"other/record"), "unknown schema"),
        (lambda _: b"\xff\xfe", "not UTF-8"),
        (lambda _: b'{"schema": "lords-bench/record/1.0"}', "record envelope has fields"),
    ],
)
def test_a_row_that_cannot_be_believed_is_named_by_line_and_stays(
    tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    lines = [encode_line(make_record(run_id=f"run-{number}", seed=0)).encode() for number in range(3)]
    lines[1] = damage(lines[1])
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")

    with Journal(path, BenchRecord) as journal:
        journal.append(make_record(run_id="run-3"))

    found = read_journal(path, BenchRecord)
    assert [noun.run_id for noun in found.records] == ["run-0", "run-2", "run-3"]
    assert [item.line for item in found.rejected] == [2]
    assert reason in found.rejected[0].reason
    assert path.read_bytes().startswith(b"\n".join(lines) + b"\n")


def test_a_full_disk_is_refused_and_every_earlier_row_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    room = 5 * len(encode_line(make_record(run_id="run-0"))) + 100

    writer = python(WRITE_UNTIL_FULL, str(path), str(room))
    message, _ = writer.communicate()

    assert "cannot write" in message
    assert "free some space" in message
    found = read_journal(path, BenchRecord)
    assert found.rejected == ()
    assert len(found.records) == 5
    assert path.read_bytes().endswith(b"\n")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    path = tmp_path / "file" / "a.jsonl"

    with pytest.raises(StoreError, match=r"cannot write .*file/a\.jsonl"), Journal(path, BenchRecord):
        pass


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(StoreError, match="Read-only file system"), Journal(tmp_path / "a.jsonl", BenchRecord):
        pass


def test_appending_to_a_closed_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="closed"):
        Journal(tmp_path / "a.jsonl", BenchRecord).append(make_record())
