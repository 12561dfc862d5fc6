"""The archive of a visit is whole at any moment, holds records and no pages, and brings only what visits write."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from lords_bench.errors import StoreError, UsageError
from lords_bench.visit import pack as module
from lords_bench.visit.archive import unpack
from lords_bench.visit.pack import go_on_from, pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    files = {
        "visit.jsonl": '{"name":"env"}\n',
        "reports/records/gpu/latency.jsonl": "one\ntwo\nhalf a li",
        "reports/gpu/latency.html": "page",
        "tuned/gpu/tuned.jsonl": "entry\n",
        "logs/env.log": "said\n",
        "model/training.json": json.dumps({"steps": 1}),
        "model/model.safetensors": "weights",
    }
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    return out


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_an_archive_holds_records_tables_logs_and_the_training_and_neither_pages_nor_weights(
    folder: Path, tmp_path: Path
) -> None:
    unpack(pack(folder, tmp_path / "visit.tar.gz"), tmp_path / "new")

    assert content(tmp_path / "new") == {
        "logs/env.log": b"said\n",
        "model/training.json": b'{"steps": 1}',
        # The last line was on its way.
        "reports/records/gpu/latency.jsonl": b"one\ntwo\n",
        "tuned/gpu/tuned.jsonl": b"entry\n",
        "visit.jsonl": b'{"name":"env"}\n',
    }


def test_a_folder_is_unpacked_as_its_archive_is(folder: Path, tmp_path: Path) -> None:
    unpack(folder, tmp_path / "from-folder")
    unpack(pack(folder, tmp_path / "visit.tar.gz"), tmp_path / "from-archive")

    assert content(tmp_path / "from-folder") == content(tmp_path / "from-archive")


def test_the_same_files_give_the_same_bytes_and_nothing_else_is_left(folder: Path, tmp_path: Path) -> None:
    first = pack(folder, tmp_path / "a" / "visit.tar.gz").read_bytes()

    assert pack(folder, tmp_path / "a" / "visit.tar.gz").read_bytes() == first
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["visit.tar.gz"]


def test_logs_are_left_out_where_the_archive_would_be_too_large(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1)

    unpack(pack(folder, tmp_path / "visit.tar.gz"), tmp_path / "new")

    assert "logs/env.log" not in content(tmp_path / "new")
    assert "visit.jsonl" in content(tmp_path / "new")


def test_what_a_later_visit_has_itself_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "later"
    (out / "reports" / "records" / "gpu").mkdir(parents=True)
    (out / "reports" / "records" / "gpu" / "latency.jsonl").write_text("own\n")

    go_on_from(pack(folder, tmp_path / "visit.tar.gz"), out)

    assert (out / "reports" / "records" / "gpu" / "latency.jsonl").read_text() == "own\n"
    assert (out / "tuned" / "gpu" / "tuned.jsonl").read_text() == "entry\n"


def archive_of(path: Path, name: str, **fields: object) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(member, field, value)
        archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("../outside.jsonl", {}),
        ("/elsewhere/absolute.jsonl", {}),
        ("reports/../../outside.jsonl", {}),
        ("reports/page.html", {}),
        ("other/file.jsonl", {}),
        ("reports/link.jsonl", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("logs/deep/er.log", {}),
    ],
)
def test_what_no_visit_writes_is_refused_and_nothing_is_written(
    name: str, fields: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="which no visit writes"):
        go_on_from(archive_of(tmp_path / "bad.tar.gz", name, **fields), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_cut_off_archive_is_refused_whole(folder: Path, tmp_path: Path) -> None:
    path = pack(folder, tmp_path / "visit.tar.gz")
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(StoreError, match="is no archive of a visit, or damaged"):
        go_on_from(path, tmp_path / "fresh")

    assert not (tmp_path / "fresh").exists()


def test_nothing_to_go_on_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder and no archive"):
        go_on_from(tmp_path / "nowhere", tmp_path / "out")


def test_a_disk_that_refuses_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="give another --pack"):
        pack(folder, tmp_path / "file" / "visit.tar.gz")
