"""Accesses as part of `lords-bench gate --static`: pinned with the rest, compared, and kept in a cache."""

from dataclasses import replace
from pathlib import Path

import pytest

from gate_builders import make_accesses, make_fingerprint
from lords_bench.cli import main
from lords_bench.errors import DeviceError
from lords_bench.gate_cli import accesses_layer, static_layer
from lords_bench.records.accesses import KernelAccesses
from lords_bench.records.codec import encode_line
from lords_bench.static.profile import accesses


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> list[KernelAccesses]:
    """What this tree's kernels access, as the command sees it; a test changes the list."""
    found = [make_accesses(), make_accesses(target="sm_80")]
    monkeypatch.setattr(static_layer, "collect", lambda _arguments: (make_fingerprint(),))
    monkeypatch.setattr(accesses_layer, "collect", lambda _arguments: tuple(found))
    return found


def gate(folder: Path, *words: str) -> int:
    return main(["gate", "--out", str(folder), "--static", *words])


def test_pinned_accesses_are_green_until_one_wastes_more(
    tmp_path: Path, head: list[KernelAccesses], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(tmp_path, "--pin") == 0
    assert "+ accesses of scale_tile on sm_80: new" in capsys.readouterr().out
    assert gate(tmp_path) == 0
    assert "gate, accesses: 2 compared, 2 the same" in capsys.readouterr().out

    codes, shared = head[0].uses
    head[0] = replace(head[0], uses=(replace(codes, units=512), shared))

    assert gate(tmp_path) == 1
    printed = capsys.readouterr().out
    assert "regression: scale_tile on sm_90: uncoalesced: load of packed_ptr in scale_tile_kernel" in printed
    assert "accesses/sm_90.jsonl#L1" in printed


def test_a_pin_that_was_edited_is_invalid(tmp_path: Path, head: list[KernelAccesses]) -> None:
    gate(tmp_path, "--pin")
    path = tmp_path / "static" / "accesses" / "sm_90.jsonl"
    path.write_text(path.read_text().replace('"units":128', '"units":999'))
    del head[0]

    assert gate(tmp_path) == 2


def test_what_was_counted_is_read_again_and_damage_is_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(command: list[str], **_options: object) -> object:
        asked.append(command[-1])
        return type("Done", (), {"returncode": 0, "stdout": encode_line(make_accesses()) + "\n", "stderr": ""})

    monkeypatch.setattr(accesses, "run", run)

    first = accesses.kernel_accesses(["sm_90"], cache_dir=tmp_path)
    again = accesses.kernel_accesses(["sm_90"], cache_dir=tmp_path)
    next(tmp_path.iterdir()).write_text("half a li")
    third = accesses.kernel_accesses(["sm_90"], cache_dir=tmp_path, only="scale")

    assert first == again == third == (make_accesses(),)
    assert asked == ["sm_90", "sm_90"]
    assert accesses.kernel_accesses(["sm_90"], cache_dir=tmp_path, only="gemv") == ()


def test_a_process_that_ends_without_counts_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        accesses, "run", lambda *_arguments, **_options: type("Done", (), {"returncode": 1, "stdout": "", "stderr": ""})
    )

    with pytest.raises(DeviceError, match="counting accesses for sm_90 gave nothing"):
        accesses.kernel_accesses(["sm_90"], cache_dir=tmp_path)
