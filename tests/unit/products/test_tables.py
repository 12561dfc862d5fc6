"""Tables on disk: an entry comes back, the later line holds, and what cannot be believed is named and set aside."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lords_bench.errors import StoreError
from lords_bench.products.tables import read_tables, settings_of, shipped_folder, user_folder, write_entry
from lords_bench.records.codec import encode_line
from tuned_builders import make_entry


def test_an_entry_comes_back_from_the_table_of_its_gpu(tmp_path: Path) -> None:
    entry = make_entry()

    path = write_entry(entry, folder=tmp_path)

    assert path == tmp_path / "some-gpu-80gb" / "tuned.jsonl"
    (table,) = read_tables((tmp_path,))
    assert (table.entries, table.rejected) == ((entry,), ())


def test_entries_are_appended_in_order(tmp_path: Path) -> None:
    first, second = make_entry(), make_entry(measured_on="2026-11-23")

    write_entry(first, folder=tmp_path)
    write_entry(second, folder=tmp_path)

    assert read_tables((tmp_path,))[0].entries == (first, second)


def damaged(line: str, kind: str) -> bytes:
    if kind == "truncated":
        return line[:50].encode()
    if kind == "edited":
        return line.replace('"median_ns":8000.0', '"median_ns":4000.0').encode()
    if kind == "foreign major":
        return line.replace("lords-bench/tuned/1.0", "lords-bench/tuned/2.0").encode()
    if kind == "foreign kind":
        return line.replace("lords-bench/tuned/1.0", "lords-bench/record/1.0").encode()
    return b"\xff\xfe not text"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "not a JSON record"),
        ("edited", "checksum does not fit"),
        ("foreign major", "major version 2"),
        ("foreign kind", "does not belong"),
        ("binary", "not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_believed_is_named_by_number_and_stays_in_the_file(
    tmp_path: Path, kind: str, reason: str
) -> None:
    path = write_entry(make_entry(), folder=tmp_path)
    with path.open("ab") as file:
        file.write(damaged(encode_line(make_entry()), kind) + b"\n")
    write_entry(make_entry(measured_on="2026-11-23"), folder=tmp_path)
    content = path.read_bytes()

    (table,) = read_tables((tmp_path,))

    assert [entry.measured_on for entry in table.entries] == ["2026-11-22", "2026-11-23"]
    ((line, found),) = [(rejected.line, rejected.reason) for rejected in table.rejected]
    assert line == 2
    assert reason in found
    assert path.read_bytes() == content


def test_a_slower_row_with_a_valid_checksum_is_not_believed(tmp_path: Path) -> None:
    """Even one whose author also recomputed the checksum: the noun itself refuses it."""
    import hashlib

    path = write_entry(make_entry(), folder=tmp_path)
    envelope = json.loads(path.read_text())
    envelope["record"]["speedup"] = {"median": 0.8, "low": 0.79, "high": 0.81}
    body = json.dumps(envelope["record"], sort_keys=True, separators=(",", ":"))
    envelope["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(json.dumps(envelope) + "\n")

    (table,) = read_tables((tmp_path,))

    assert table.entries == ()
    assert "not proven to be no slower" in table.rejected[0].reason


def test_folders_that_do_not_exist_hold_no_tables(tmp_path: Path) -> None:
    assert read_tables((tmp_path / "absent",)) == ()


def test_the_shipped_folder_is_the_committed_one() -> None:
    assert (shipped_folder() / "README.md").is_file()


def test_the_users_folder_can_be_overridden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORDS_BENCH_TUNED", str(tmp_path))

    assert user_folder() == tmp_path


def test_an_overridden_folder_needs_no_platformdirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORDS_BENCH_TUNED", str(tmp_path))
    monkeypatch.setitem(sys.modules, "platformdirs", None)

    assert user_folder() == tmp_path


def test_the_users_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LORDS_BENCH_TUNED", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert user_folder() == tmp_path / "lords_bench" / "tuned"


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    with pytest.raises(StoreError, match="cannot write") as error:
        write_entry(make_entry(), folder=blocked)

    assert "\n" not in str(error.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    block_n: int = 64
    last_sums: bool = True


def test_settings_are_the_fields_of_a_configuration_in_order() -> None:
    assert settings_of(Config()) == (("block_n", 64), ("last_sums", True))
    assert settings_of(None) == ()
