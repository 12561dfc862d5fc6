"""`lords-bench bench latency` as a user meets it."""

from pathlib import Path

import pytest

from lords_bench.cli import main
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import read_nouns

SMALL = ["bench", "latency", "--name", "here", "--m", "1", "--regimes", "eager"]


def test_a_fake_run_ends_with_verdict_and_report_and_says_that_it_is_fake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*SMALL, "--fake", "--out", str(tmp_path)])

    out = capsys.readouterr().out
    assert code == 0
    assert "A fake device made these numbers up" in out
    assert "LoRDS is, against dense matmul" in out
    assert out.splitlines()[-1] == f"Report: {tmp_path}/here/latency.html"
    assert (tmp_path / "here" / "latency-speedup-1.svg").is_file()


def test_an_interrupted_run_goes_on_and_report_rebuilds_the_same_bytes(tmp_path: Path) -> None:
    fake = [*SMALL, "--fake", "--out", str(tmp_path)]
    assert main([*fake, "--minutes", "1e-6"]) in (0, 2)  # where nothing was reached, there is nothing to report

    assert main(fake) == 0
    records = read_nouns(tmp_path / "records" / "here" / "latency.jsonl", LatencyRecord).records
    page = (tmp_path / "here" / "latency.html").read_bytes()
    assert main(fake) == 0
    again = read_nouns(tmp_path / "records" / "here" / "latency.jsonl", LatencyRecord).records
    assert main(["report", "--out", str(tmp_path)]) == 0

    assert again == records
    assert (tmp_path / "here" / "latency.html").read_bytes() == page


def test_a_machine_that_cannot_draw_pages_still_keeps_its_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_arguments: object) -> None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr("lords_bench.cli.bench.common.rebuild", absent)

    assert main([*SMALL, "--fake", "--out", str(tmp_path)]) == 0

    assert "no page is made here, matplotlib is not installed" in capsys.readouterr().out
    assert read_nouns(tmp_path / "records" / "here" / "latency.jsonl", LatencyRecord).records


def test_cases_are_listed_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([*SMALL, "--fake", "--full", "--bits", "2", "--models", "qwen3-4b", "--list", "--out", str(tmp_path)]) == 0
    )

    cases = capsys.readouterr().out.splitlines()
    assert cases[0] == "qwen3-4b/q_proj-m1-b2-g64"
    assert len(cases) == 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "latency", "--fake", "--regimes", "warm"], "unknown regime 'warm'; known: cold, hot, eager"),
        (["bench", "latency", "--fake", "--models", "gpt-5"], "unknown model 'gpt-5'"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path)]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
