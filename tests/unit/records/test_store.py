"""The record file: one writer, whole lines, and everything finished survives a kill, a full disk or an edit."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lords_bench.errors import RecordError, StoreError
from lords_bench.records import RecordStore, RejectedLine, Status, completed, lines, read_records
from lords_bench.records.codec import encode_line
from lords_bench.records.store import read_any
from record_builders import make_environment, make_record

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
CHILD_SECONDS = 600


def _child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that has `make_record` and the store at hand."""
    preamble = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom record_builders import make_record\n"
        "from lords_bench.records import RecordStore\npath = Path(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", preamble + code, *arguments],
        env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _write(path: Path, *case_ids: str) -> None:
    with RecordStore(path) as store:
        for case_id in case_ids:
            store.append(make_record(case_id))


def _case_ids(path: Path) -> list[str]:
    return [record.case_id for record in read_records(path).records]


def test_appended_records_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "accuracy.jsonl"

    _write(path, "a", "b")
    _write(path, "c")

    assert _case_ids(path) == ["a", "b", "c"]
    assert read_records(path).rejected == ()


def test_completed_cases_are_those_of_the_run_that_are_ok_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    records = [
        make_record("done"),
        make_record("crashed", status=Status.CRASH),
        make_record("partial", complete=False),
        make_record("other-source", environment=make_environment(source_sha256="6" * 64)),
    ]

    with RecordStore(path) as store:
        for record in records:
            store.append(record)
        from_writer = completed(store.records, make_record().run_key).keys()

    assert from_writer == {"done"}
    assert completed(read_records(path).records, make_record().run_key).keys() == {"done"}


def test_a_second_run_on_the_folder_is_refused_with_the_first_one_s_process_id(tmp_path: Path) -> None:
    child = _child(
        "with RecordStore(path):\n    print('locked', flush=True)\n    sys.stdin.read()\n", str(tmp_path / "one.jsonl")
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "locked\n"

    with pytest.raises(StoreError, match=f"is being written by process {child.pid}; wait for that run"):
        RecordStore(tmp_path / "two.jsonl").__enter__()

    child.communicate(timeout=CHILD_SECONDS)
    _write(tmp_path / "two.jsonl", "a")


def test_a_run_killed_between_records_leaves_whole_records_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    child = _child(
        "with RecordStore(path) as store:\n"
        "    for number in range(10**6):\n"
        "        store.append(make_record(f'case-{number}'))\n"
        "        print(number, flush=True)\n",
        str(path),
    )
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(5)]
    child.kill()
    child.communicate(timeout=CHILD_SECONDS)

    with RecordStore(path) as store:
        survived = completed(store.records, make_record().run_key).keys()

    assert child.returncode == -signal.SIGKILL
    assert survived >= {f"case-{number}" for number in acknowledged}


def test_a_run_killed_in_the_middle_of_a_write_loses_that_record_only(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    child = _child(
        "whole_write = os.write\n"
        "def torn_write(file, line):\n"
        "    whole_write(file, line[:len(line) // 2])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "with RecordStore(path) as store:\n"
        "    store.append(make_record('whole'))\n"
        "    os.write = torn_write\n"
        "    store.append(make_record('torn'))\n",
        str(path),
    )
    child.communicate(timeout=CHILD_SECONDS)
    torn = path.read_bytes().split(b"\n")[1]

    seen_by_reader = read_records(path)
    with RecordStore(path) as store:
        seen_by_writer = store.rejected
        store.append(make_record("next"))

    assert child.returncode == -signal.SIGKILL
    assert [(item.line, item.reason) for item in seen_by_reader.rejected] == [
        (2, f"torn line of {len(torn)} bytes, left by a run that was killed")
    ]
    assert seen_by_writer == seen_by_reader.rejected
    assert _case_ids(path) == ["whole", "next"]
    assert read_records(path).rejected == ()
    assert path.with_name("accuracy.jsonl.rejected").read_bytes() == torn + b"\n"


def test_a_reader_never_changes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    _write(path, "a")
    path.write_bytes(path.read_bytes() + b'{"schema":"lords')
    before = path.read_bytes()

    read_records(path)

    assert path.read_bytes() == before
    assert not path.with_name("accuracy.jsonl.rejected").exists()


def test_a_last_record_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    path.write_text(encode_line(make_record("a")))

    _write(path, "b")

    assert _case_ids(path) == ["a", "b"]


def test_an_edited_line_is_named_not_believed_and_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    _write(path, "a", "b", "c")
    edited = path.read_text().replace('"case_id":"b"', '"case_id":"B"')
    path.write_text(edited)

    _write(path, "d")

    found = read_records(path)
    assert [record.case_id for record in found.records] == ["a", "c", "d"]
    assert [item.line for item in found.rejected] == [2]
    assert "checksum" in found.rejected[0].reason
    assert path.read_text().startswith(edited)


def test_bytes_that_are_not_text_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    _write(path, "a")
    path.write_bytes(b"\xff\xfe\n" + path.read_bytes())

    found = read_records(path)

    assert [record.case_id for record in found.records] == ["a"]
    assert [(item.line, item.reason) for item in found.rejected] == [(1, "not a record: it is not UTF-8 text")]


def test_a_full_disk_is_one_line_and_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accuracy.jsonl"
    _write(path, "a")
    before = path.read_bytes()

    with RecordStore(path) as store:
        monkeypatch.setattr(os, "write", _raise_no_space)
        with pytest.raises(StoreError, match=r"cannot write '.*accuracy.jsonl': No space left on device; free some"):
            store.append(make_record("b"))
        monkeypatch.undo()
        assert [record.case_id for record in store.records] == ["a"]

    assert path.read_bytes() == before


@pytest.mark.parametrize("harm", ["deleted", "replaced"])
def test_a_record_for_a_file_that_is_gone_is_refused_and_not_lost_in_silence(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "accuracy.jsonl"

    with RecordStore(path) as store:
        store.append(make_record("a"))
        path.unlink()
        if harm == "replaced":
            path.write_bytes(b"")
        with pytest.raises(StoreError, match=r"accuracy.jsonl' was deleted or replaced while it was written"):
            store.append(make_record("b"))
        assert [record.case_id for record in store.records] == ["a"]


def _raise_no_space(_file: int, _line: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_that_the_disk_cuts_short_leaves_nothing_half_written(tmp_path: Path) -> None:
    """The kernel itself writes half of the line here: the file may not grow beyond its limit."""
    path = tmp_path / "accuracy.jsonl"
    child = _child(
        "import resource\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with RecordStore(path) as store:\n"
        "    store.append(make_record('a'))\n"
        "    limit = path.stat().st_size * 3 // 2\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "    try:\n"
        "        store.append(make_record('b'))\n"
        "    except OSError as error:\n"
        "        print(type(error).__name__, error)\n",
        str(path),
    )
    output, errors = child.communicate(timeout=CHILD_SECONDS)

    assert errors == ""
    assert output.startswith("StoreError cannot write")
    assert "disk full after" in output
    assert output.count("\n") == 1
    assert read_records(path).rejected == ()
    assert _case_ids(path) == ["a"]


def test_a_read_only_folder_is_refused_in_one_line() -> None:
    """Runs as another user where the tests run as root, whom no permission stops."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        child = _child(
            "if os.geteuid() == 0:\n"
            "    os.setgroups([])\n"
            "    os.setgid(65534)\n"
            "    os.setuid(65534)\n"
            "try:\n"
            "    RecordStore(path).__enter__()\n"
            "except OSError as error:\n"
            "    print(type(error).__name__, error)\n",
            f"{folder}/accuracy.jsonl",
        )
        output, errors = child.communicate(timeout=CHILD_SECONDS)

    assert errors == ""
    assert output.startswith("StoreError cannot write")
    assert "Permission denied" in output
    assert output.count("\n") == 1


def test_a_folder_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("not a folder")

    with pytest.raises(StoreError, match=r"cannot write '.*accuracy.jsonl'.*give another --out"):
        RecordStore(tmp_path / "reports" / "accuracy.jsonl").__enter__()


def test_reading_a_file_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no record file '.*absent.jsonl'; run 'lords-bench bench' first"):
        read_records(tmp_path / "absent.jsonl")


def test_appending_outside_the_with_block_is_refused(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "accuracy.jsonl") as store:
        pass

    with pytest.raises(StoreError, match="is closed"):
        store.append(make_record())


def test_the_lock_is_free_again_after_a_refused_open(tmp_path: Path) -> None:
    (tmp_path / "accuracy.jsonl").mkdir()

    with pytest.raises(StoreError, match="Is a directory"):
        RecordStore(tmp_path / "accuracy.jsonl").__enter__()

    _write(tmp_path / "other.jsonl", "a")


def test_a_line_longer_than_any_record_is_set_aside_and_its_neighbours_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "accuracy.jsonl"
    _write(path, "a", "b")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"x" * 20_000 + b"\n" + second)
    monkeypatch.setattr(lines, "MOST_LINE_BYTES", 10_000)

    found = read_records(path)

    assert [record.case_id for record in found.records] == ["a", "b"]
    assert found.rejected == (RejectedLine(line=2, reason="not a record: 20000 bytes in one line"),)


def test_a_torn_line_longer_than_any_record_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accuracy.jsonl"
    _write(path, "a")
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 20_000)
    monkeypatch.setattr(lines, "MOST_LINE_BYTES", 10_000)

    with RecordStore(path) as store:
        assert [item.is_torn for item in store.rejected] == [True]

    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"x" * 5000, b"x\n" * 2500, b"\n" * 5000])
def test_a_file_larger_than_any_run_writes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = tmp_path / "accuracy.jsonl"
    path.write_bytes(content)
    monkeypatch.setattr(lines, "MOST_FILE_BYTES", 4000)

    with pytest.raises(RecordError, match=r"accuracy\.jsonl' is larger than 0 MiB; no run writes so much"):
        read_records(path)


def test_a_file_of_nothing_but_newlines_costs_a_bounded_number_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.jsonl"
    path.write_bytes(b"\n" * 10**7)

    with pytest.raises(
        RecordError, match=r"has more than 10000 lines that are not believed; line 1: not a JSON record"
    ):
        read_records(path)
    with pytest.raises(RecordError, match="holds no record: not a JSON record"):
        read_any(path)


def test_a_device_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_FILE_BYTES", 2**20)
    monkeypatch.setattr(lines, "MOST_LINE_BYTES", 2**16)

    with pytest.raises(RecordError, match="'/dev/zero' is larger than 1 MiB"):
        read_records(Path("/dev/zero"))
