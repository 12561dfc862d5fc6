"""`lords-bench kernels`: what it prints, its exit codes, and what it refuses."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lords_bench.cli.kernels import run_check
from lords_bench.cli.parser import build_parser
from lords_bench.errors import UsageError
from lords_bench.kernel_check import CheckResult
from lords_bench.kernel_check.cases import case_name
from lords_bench.kernel_check.isolated import cases_of, queue
from lords_bench.kernels.common.budget import Budget
from lords_bench.records.check import CheckRecord
from lords_bench.records.status import Status
from lords_bench.records.store import read_nouns
from record_builders import make_environment

STATUSES = (Status.OK, Status.CRASH)


def parsed(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["kernels", *words])


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
    assert "4 kernels compiled, 0 outside their budget" in printed
    assert len(list(tmp_path.glob("*.json.gz"))) == 4


def test_a_broken_budget_gives_exit_code_1_and_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setattr(Budget, "with_triton", lambda *_: Budget(max_instructions_per_32_weights=0.01))

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


def test_one_thing_to_do_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed()

    assert "one of the arguments --static --check --sanitize --profile is required" in capsys.readouterr().err


def test_results_are_kept_as_they_come_and_a_second_check_goes_on_behind_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left_out: list[set[tuple[str, str]]] = []

    def check_two(
        kernels: tuple[str, ...],
        *,
        done: set[tuple[str, str]],
        on_result: Callable[[CheckResult], None],
        **_options: object,
    ) -> tuple[CheckResult, ...]:
        left_out.append(done)
        found = []
        jobs = [job for job in queue(kernels) if (job.kernel, job.case) not in done]
        for job, status in zip(jobs, STATUSES, strict=False):
            reason = None if status is Status.OK else "no"
            found.append(CheckResult(kernel=job.kernel, case=job.case, status=status, reason=reason, worst=None))
            on_result(found[-1])
        return tuple(found)

    environment = make_environment(device="cuda", gpu_name="Example GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Example GPU")
    monkeypatch.setattr("lords_bench.timing.probe.probe_environment", lambda _device: environment)
    monkeypatch.setattr("lords_bench.kernel_check.isolated.check_isolated", check_two)

    codes = [run_check(only="fake_quantize", out=tmp_path) for _ in range(2)]

    records = read_nouns(tmp_path / "records" / "example-gpu" / "checks.jsonl", CheckRecord).records
    assert codes == [1, 1]
    first = queue(("fake_quantize",))[0]
    assert left_out == [set(), {("fake_quantize", first.case)}]
    assert [record.status for record in records] == [*STATUSES, *STATUSES]


def test_kernels_are_checked_on_an_emulated_device_and_the_results_kept_as_such(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def check_one(
        _kernels: tuple[str, ...],
        *,
        command: list[str],
        on_result: Callable[[CheckResult], None],
        **_options: object,
    ) -> tuple[CheckResult, ...]:
        commands.append(command)
        reason = "global access out of bounds: kernel.py:7:3 ptx:20 ld.global.b32 %r3, [%rd0] [1 accesses]"
        case = case_name(**cases_of("fake_quantize")[0])
        found = CheckResult(kernel="fake_quantize", case=case, status=Status.INCORRECT, reason=reason, worst=0.1)
        on_result(found)
        return (found,)

    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setattr("lords_bench.kernel_check.isolated.check_isolated", check_one)

    code = run("--check", "--device", "emulated-sm_90", "--only", "fake_quantize", "--out", str(tmp_path))

    (path,) = tmp_path.glob("records/emulated-sm_90-triton-*/checks.jsonl")
    (record,) = read_nouns(path, CheckRecord).records
    assert (record.emulated, record.status, record.environment.device) == ("sm_90", Status.INCORRECT, "cpu")
    assert record.planned == len(cases_of("fake_quantize"))
    printed = " ".join(capsys.readouterr().out.split())
    assert code == 1
    assert "compiled for sm_90 and executed in an emulator, not run on a GPU" in printed
    assert "incorrect: global access out of bounds: kernel.py:7:3" in printed
    assert [command[-2:] for command in commands] == [["lords_bench.kernel_check.emulated", "sm_90"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--static", "--device", "emulated-sm_90"), "--device emulated-sm_90 goes with --check"),
        (("--check", "--device", "sm_75"), "unknown emulated device 'sm_75'; known: emulated-sm_80"),
    ],
)
def test_what_an_emulated_device_cannot_do_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(*words)
