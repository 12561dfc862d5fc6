"""Stored machine code comes back equal, or is removed and counts as none; it never comes back as something else."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.errors import StoreError
from lords_bench.records.codec import canonical_json, to_plain
from lords_bench.static import stored
from lords_bench.static.stored import StoredCode, read_stored, write_stored
from lords_bench.static.ttgir import LayoutFacts

CODE = StoredCode(
    assembly="/*0000*/ MOV R1, c[0x0][0x28] ;\n" * 20,
    resources="REG:32",
    shared_bytes=1024,
    layouts=LayoutFacts(products=1, scalar_products=0, byte_decoder_columns=(4,), code_load_bytes=(16, 16)),
)


def wrapped(code: object) -> bytes:
    """A file of any content, with a checksum that fits."""
    sha256 = hashlib.sha256(canonical_json(code).encode()).hexdigest()
    return gzip.compress(json.dumps({"code": code, "sha256": sha256}).encode())


def test_what_was_written_is_read_and_the_same_code_gives_the_same_bytes(tmp_path: Path) -> None:
    damaged: list[Path] = []
    write_stored(tmp_path / "a", CODE)
    write_stored(tmp_path / "b", CODE)

    assert read_stored(tmp_path / "a", damaged.append) == CODE
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_stored(tmp_path / "absent", damaged.append) is None
    assert damaged == []


@given(st.data())
def test_no_flipped_bit_is_believed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("stored") / "result.json.gz"
    write_stored(path, CODE)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    damaged: list[Path] = []

    found = read_stored(path, damaged.append)

    # Name and time in a header of gzip mean nothing.
    assert found in (None, CODE)
    assert path.exists() == (found is not None)
    assert damaged == ([] if found else [path])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b truncated",
        gzip.compress(b"{}")[:-4],
        gzip.compress(b"{}")[:-1] + b"\x00",
        *(gzip.compress(text) for text in (b"", b"[]", b"5", b"null", b'{"status":"ok"}', b"\xff", b"[" * 100_000)),
        gzip.compress(json.dumps({"code": to_plain(CODE), "sha256": "ab"}).encode()),
        *map(wrapped, ([], 5, {}, {**to_plain(CODE), "shared_bytes": True}, {**to_plain(CODE), "assembly": None})),
        wrapped({**to_plain(CODE), "layouts": {"products": 1}}),
    ],
)
def test_whatever_else_a_file_holds_it_is_removed_and_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json.gz"
    path.write_bytes(content)
    damaged: list[Path] = []

    assert read_stored(path, damaged.append) is None

    assert not path.exists()
    assert damaged == [path]


def test_a_file_that_grows_without_end_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json.gz"
    path.write_bytes(gzip.compress(b" " * 10**6 + b"{}"))
    monkeypatch.setattr(stored, "MOST_BYTES", 10**5)

    assert read_stored(path, [].append) is None
    assert not path.exists()


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(StoreError, match=r"No space left on device; free some space, or give another --cache"):
        write_stored(tmp_path / "result.json.gz", CODE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["folder", "loop", "endless"])
def test_what_is_no_file_is_removed_and_the_place_can_be_written(what: str, tmp_path: Path) -> None:
    path, damaged = tmp_path / "result.json.gz", list[Path]()
    if what == "folder":
        (path / "below").mkdir(parents=True)
    else:
        path.symlink_to({"loop": path, "endless": Path("/dev/zero")}[what])

    assert read_stored(path, damaged.append) is None
    write_stored(path, CODE)

    assert damaged == [path]
    assert read_stored(path, damaged.append) == CODE
