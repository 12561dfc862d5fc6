"""What a memory checker says is kept in its own words, also when it cannot work here."""

import sys
from pathlib import Path

import pytest

from lords_bench.records.status import Status
from lords_bench.sanitizer import CHECKERS, find_program, judged, watch, watch_all

OK_LINE = '{"kernel": "one", "case": "c", "status": "ok", "reason": null, "worst": 0.5}'


def fake_tool(folder: Path, body: str) -> str:
    path = folder / "compute-sanitizer"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_tool_that_finds_nothing_says_ok(tmp_path: Path) -> None:
    program = fake_tool(tmp_path, f"print({OK_LINE!r}); print('========= ERROR SUMMARY: 0 errors')")

    found = watch("memcheck", "scale_tile", program=program)

    assert (found.status, found.reason, found.case) == (Status.OK, None, "m1-n256-k1024-b4-r16-bfloat16")


def test_a_finding_is_an_error_with_its_first_line(tmp_path: Path) -> None:
    body = "print('========= Invalid __global__ read of size 2 bytes'); print('=========     at k+0x10')\n"
    body += f"print({OK_LINE!r}); print('========= ERROR SUMMARY: 3 errors'); sys.exit(86)"

    found = watch("memcheck", "scale_tile", program=fake_tool(tmp_path, body))

    assert found.status is Status.INCORRECT
    assert found.reason == "3 findings, the first: Invalid __global__ read of size 2 bytes"


def test_a_tool_that_refuses_the_device_is_unsupported_in_its_own_words(tmp_path: Path) -> None:
    body = "print('========= COMPUTE-SANITIZER'); print('========= Error: Device not supported'); sys.exit(1)"

    found = watch("racecheck", "scale_tile", program=fake_tool(tmp_path, body))

    assert (found.status, found.reason) == (
        Status.UNSUPPORTED,
        "no summary: Error: Device not supported, exit code 1",
    )


def test_the_tool_is_asked_for_the_check_of_one_case_without_torch_s_cache(tmp_path: Path) -> None:
    body = (
        "open(sys.argv[0] + '.log', 'w').write(' '.join(sys.argv[1:]) + os.environ['PYTORCH_NO_CUDA_MEMORY_CACHING'])"
    )
    program = fake_tool(tmp_path, body)

    watch("racecheck", "blockwise", program=program)

    said = Path(f"{program}.log").read_text()
    assert said.startswith("--tool racecheck --error-exitcode 86 ")
    assert said.endswith("-m lords_bench.kernel_check.isolated blockwise 01")


def test_a_tool_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    program = fake_tool(tmp_path, "time.sleep(60)")

    assert watch("memcheck", "scale_tile", program=program, case_seconds=0.5).status is Status.TIMEOUT


def test_an_absent_tool_is_said_for_every_kernel_and_checker_and_what_is_no_kernel_is_left_out() -> None:
    found = watch_all(("scale_tile", "reference", "fake_quantize"), program=None)

    assert [(one.tool, one.kernel) for one in found] == [
        (tool, kernel) for tool in CHECKERS for kernel in ("scale_tile", "fake_quantize")
    ]
    assert {(one.status, one.reason) for one in found} == {
        (Status.UNSUPPORTED, "compute-sanitizer is not on this machine")
    }


@pytest.mark.parametrize(
    ("code", "output", "status"),
    [
        (0, "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n" + OK_LINE, Status.OK),
        (0, "========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n" + OK_LINE, Status.INCORRECT),
        (-6, "========= ERROR SUMMARY: 0 errors", Status.CRASH),
        (0, "========= ERROR SUMMARY: 0 errors", Status.CRASH),
        (0, OK_LINE.replace('"ok"', '"unsupported"') + "\n========= ERROR SUMMARY: 0 errors", Status.UNSUPPORTED),
        (1, "", Status.UNSUPPORTED),
    ],
)
def test_only_a_clean_summary_of_a_kernel_that_did_its_case_is_ok(code: int, output: str, status: Status) -> None:
    assert judged(code, output)[0] is status


def test_the_tool_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_tool(tmp_path, "")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_program() == program
