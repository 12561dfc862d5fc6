"""`lords-bench kernels`: what it prints, its exit codes, and what it refuses."""

import argparse
from pathlib import Path

import pytest
import torch

from lords_bench import kernel_cli
from lords_bench.errors import UsageError
from lords_bench.static import suite
from lords_bench.static.budget import BUDGETS, Budget


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    kernel_cli.add_parser(parser.add_subparsers())
    return parser.parse_args(["kernels", *words])


def run(*words: str) -> int:
    arguments = parsed(*words)
    code = arguments.run(arguments)
    assert isinstance(code, int)
    return code


def test_static_prints_machine_code_and_names_predictions_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")

    code = run("--static", "--only", "dequantize 4 bit", "--targets", "sm_80", "gfx942", "--cache", str(tmp_path))

    printed = capsys.readouterr().out
    assert code == 0
    assert "Machine code (read from the cubin)" in printed
    assert "AMD (compiled, not measured)" in printed
    assert "2 kernels compiled, 0 outside their budget" in printed
    assert len(list(tmp_path.glob("*.json.gz"))) == 2


def test_a_broken_budget_gives_exit_code_1_and_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    tight = {name: Budget(max_instructions_per_32_weights=0.01) for name in BUDGETS}
    monkeypatch.setattr(suite, "named_budget", lambda name, **_: tight[name])

    code = run("--static", "--only", "rank_expanded 2 bit", "--targets", "sm_80")

    printed = capsys.readouterr().out
    assert code == 1
    assert "instructions per 32 weights > 0.01" in printed
    assert "PREDICTED bounds" in printed


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown target 'sm_75'; known: sm_80"):
        run("--static", "--targets", "sm_75")


def test_a_filter_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no kernel contains 'gemv' on sm_80"):
        run("--static", "--only", "gemv", "--targets", "sm_80")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where there is no GPU")
def test_check_without_a_gpu_says_what_works_instead() -> None:
    with pytest.raises(UsageError, match="no CUDA device to check the kernels on; `--static` needs none"):
        run("--check")


def test_one_of_static_and_check_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed()

    assert "one of the arguments --static --check is required" in capsys.readouterr().err
