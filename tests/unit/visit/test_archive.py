"""An archive is read within its limits or refused whole: bombs, links, odd paths, damage, and what goes on behind."""

import gzip
import io
import re
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from cost_builders import make_ptq
from lords_bench.cli import main
from lords_bench.errors import RecordError, StoreError
from lords_bench.records.codec import encode_line
from lords_bench.visit import archive
from lords_bench.visit.archive import most_bytes_of, unpack
from lords_bench.visit.pack import pack
from lords_bench.visit.take import take

MIB = 2**20
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "measuring" / "visit.md"


def tar_of(*members: tuple[str, int], **fields: object) -> bytes:
    """A tar with members of newlines, by name and size."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, size in members:
            member = tarfile.TarInfo(name)
            member.size = size
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(b"\n" * size) if member.isreg() else None)
    return buffer.getvalue()


def refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Neither way to read an archive uses anything of it."""
    path = tmp_path / "visit.tar.gz"
    path.write_bytes(content)

    with pytest.raises(StoreError, match=message) as error:
        unpack(path, tmp_path / "new")
    assert "\n" not in str(error.value)
    with pytest.raises((StoreError, RecordError), match=message):
        take(path, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    "name",
    [
        "visit.jsonl", "model/training.json", "logs/cold.log", "tuned/nvidia-h200/scale_tile.trials.jsonl",
        "reports/records/nvidia-h200/latency.jsonl", "reports/records/übung/cost.jsonl",
    ],
)  # fmt: skip
def test_what_a_visit_writes_belongs(name: str) -> None:
    assert most_bytes_of(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "visit.jsonl/", "./visit.jsonl", "/visit.jsonl", "../visit.jsonl", "a/../visit.jsonl",
        "reports/../../x.jsonl", "reports//x.jsonl", "reports/./x.jsonl", "reports/.hidden/x.jsonl", "reports/x.html",
        "reports/x.jsonl\n", "reports/a\nb.jsonl", "reports/a b.jsonl", "reports\\x.jsonl", "C:/x.jsonl",
        "other/x.jsonl",
        "model/model.safetensors", "logs/deep/er.log", "tuned/x.py", "reports/records/x\u202e.jsonl",
        "reports/" + "x" * 101 + ".jsonl",
        "reports/" + "d/" * 2500 + "x.jsonl", "reports/records/a/b/c.jsonl", "visit.jsonl\0",
    ],
)  # fmt: skip
def test_what_no_visit_writes_does_not_belong(name: str) -> None:
    assert most_bytes_of(name) is None


def test_a_small_archive_of_newlines_is_refused_at_the_cost_of_a_bounded_number_of_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "visit.tar.gz"
    path.write_bytes(gzip.compress(tar_of(("reports/records/gpu/latency.jsonl", 60 * MIB))))
    assert path.stat().st_size < 70_000

    tracemalloc.start()
    code = main(["gpu", "--take", str(path), "--out", str(tmp_path / "reports")])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert code == 2
    assert "has more than 10000 lines that are not believed" in capsys.readouterr().err
    assert peak < 20 * MIB
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("name", "size"),
    [("visit.jsonl", 4 * MIB), ("model/training.json", 4 * MIB), ("logs/a.log", MIB), ("tuned/g/t.jsonl", 128 * MIB)],
)
def test_a_member_larger_than_its_kind_is_refused_before_it_is_read(tmp_path: Path, name: str, size: int) -> None:
    header = tarfile.TarInfo(name)
    header.size = size + 1

    refused(tmp_path, gzip.compress(header.tobuf()), f"holds '{name}' of {size + 1} bytes; at most {size} are read")


def test_members_that_together_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_SUM_BYTES", 100_000)

    refused(
        tmp_path,
        gzip.compress(tar_of(*((f"reports/records/gpu/{n}.jsonl", 30_000) for n in range(4)))),
        "holds more than 100000 bytes; nothing of it is used",
    )


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    names = [(f"logs/{n}.log", 0) for n in range(archive.MOST_MEMBERS + 1)]

    refused(tmp_path, gzip.compress(tar_of(*names)), "holds more than 1000 files")


def test_a_header_that_claims_a_long_name_costs_no_more_than_the_stream_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MOST_STREAM_BYTES", 100_000)
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**32

    refused(tmp_path, gzip.compress(header.tobuf() + b"x" * 200_000), "holds more than .* bytes; nothing of it is used")


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, gzip.compress(tar_of(("visit.jsonl", 1), ("visit.jsonl", 2))), "holds 'visit.jsonl' twice")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_what_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    content = tar_of(("visit.jsonl", 0), type=kind, linkname="/etc/passwd")

    refused(tmp_path, gzip.compress(content), "holds 'visit.jsonl', which no visit writes: it is no file")


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("visit.jsonl")
    header.type = tarfile.GNUTYPE_SPARSE

    refused(tmp_path, gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024), "which no visit writes|damaged")


def whole() -> bytes:
    return gzip.compress(tar_of(("visit.jsonl", 1000)), mtime=0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "damaged"),
        (lambda content: content[:-4], "damaged"),
        (lambda content: content[:-8], "damaged"),
        (lambda content: content[:-8] + b"\0" * 8, "damaged"),
        (lambda content: content[:-4] + struct.pack("<I", 5), "damaged"),
        (lambda content: content + b"more", "damaged"),
        (lambda content: content + whole(), "goes on behind its end"),
        (lambda content: content + gzip.compress(b"\0" * 260 * MIB), "holds more than"),
        (lambda _: b"", "damaged"),
        (lambda _: b"PK\3\4", "damaged"),
        (lambda _: gzip.compress(b""), "damaged"),
        (lambda _: gzip.compress(b"not a tar" * 1000), "damaged"),
        (lambda _: gzip.compress(tar_of(("visit.jsonl", 100))[:600]), "damaged"),
    ],
)
def test_a_damaged_archive_is_refused_whole(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    refused(tmp_path, damage(whole()), message)


def test_every_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    content = whole()
    unpack(_written(tmp_path / "whole.tar.gz", content), tmp_path / "whole")
    expected = (tmp_path / "whole" / "visit.jsonl").read_bytes()

    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        folder = tmp_path / f"folder-{place}"
        try:
            unpack(_written(tmp_path / "damaged.tar.gz", bytes(damaged)), folder)
        except StoreError as error:
            assert "\n" not in str(error)  # noqa: PT017  (either is right)
            continue
        assert (folder / "visit.jsonl").read_bytes() == expected


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_folder_is_read_by_the_same_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "visit" / "logs").mkdir(parents=True)
    (tmp_path / "visit" / "logs" / "a.log").write_bytes(b"x" * (MIB + 1))

    with pytest.raises(StoreError, match=f"holds 'logs/a.log' of {MIB + 1} bytes"):
        unpack(tmp_path / "visit", tmp_path / "new")
    # An archive has the end of a log only.
    unpack(pack(tmp_path / "visit", tmp_path / "visit.tar.gz"), tmp_path / "new")
    monkeypatch.setattr(archive, "MOST_SUM_BYTES", 1000)
    with pytest.raises(StoreError, match="holds more than 1000 bytes"):
        pack(tmp_path / "visit", tmp_path / "visit.tar.gz")


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "visit" / "reports").mkdir(parents=True)
    (tmp_path / "secret").write_text("line\n")
    (tmp_path / "visit" / "reports" / "x.jsonl").symlink_to(tmp_path / "secret")

    unpack(tmp_path / "visit", tmp_path / "new")

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", ["[]", "5", "NaN", '{"a":NaN}', "{", "[" * 100_000])
def test_a_training_that_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    records = tmp_path / "visit" / "reports" / "records" / "example-gpu" / "cost.jsonl"
    records.parent.mkdir(parents=True)
    records.write_text(f"{encode_line(make_ptq())}\n")
    (tmp_path / "visit" / "model").mkdir()
    (tmp_path / "visit" / "model" / "training.json").write_text(content)

    with pytest.raises(RecordError, match=r"model/training\.json is damaged: .*; nothing is taken"):
        take(tmp_path / "visit", tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_the_page_states_the_limits() -> None:
    text = " ".join(DOCUMENT.read_text("utf-8").split())

    limits = {most_bytes_of(name) for name in ("tuned/g/t.jsonl", "visit.jsonl", "logs/a.log")}
    assert all(limit is not None and f"{limit // MIB} MiB" in text for limit in limits)
    assert f"{archive.MOST_MEMBERS} files" in text
    assert f"{archive.MOST_SUM_BYTES // MIB} MiB together" in text
    assert re.search("checksum at its end", text)
