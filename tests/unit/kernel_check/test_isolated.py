"""The isolated check: a worker that crashes, hangs, chatters or loses its device costs one case and hides none."""

import sys

import pytest

from lords_bench.isolate import Worker
from lords_bench.kernel_check import CheckResult
from lords_bench.kernel_check.isolated import check_isolated
from lords_bench.records.status import Status
from process_tree import PATIENCE_S

# A worker in a few lines: argv is what happens to each case, then the kernel and the first case.
WORKER = """
import json, os, sys, time
script, kernel, first = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
for number in range(first, len(script)):
    print(json.dumps({"begin": f"case{number}"}), flush=True)
    if script[number] == "crash":
        print("Segmentation fault", file=sys.stderr, flush=True)
        os.abort()
    if script[number] == "hang":
        time.sleep(600)
    if script[number] == "chatter":
        print("a compiler says: {1}")
        print("warning " * 20000, file=sys.stderr)
    status = script[number] if script[number] == "launch_error" else "ok"
    reason = "context lost" if status == "launch_error" else None
    print(json.dumps({"case": f"case{number}", "status": status, "reason": reason, "worst": 0.5}), flush=True)
    if status == "launch_error":
        sys.exit(75)
"""


def check(*script: str, case_seconds: float = PATIENCE_S) -> tuple[CheckResult, ...]:
    return check_isolated(
        ("one",),
        cases=len(script),
        case_seconds=case_seconds,
        command=lambda kernel, first: [sys.executable, "-c", WORKER, ",".join(script), kernel, str(first)],
    )


def test_a_crash_costs_its_case_and_the_next_worker_goes_on() -> None:
    results = check("ok", "crash", "ok")

    assert [result.status for result in results] == [Status.OK, Status.CRASH, Status.OK]
    assert [result.case for result in results] == ["case0", "case1", "case2"]
    assert results[1].reason == "worker ended with code -6: Segmentation fault"


def test_a_case_that_hangs_is_killed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    receive, begun = Worker.receive, '{"begin": "case0"}'

    def patient(self: Worker, seconds: float) -> str:
        nonlocal begun
        # A start and a case that is well take as long as the machine needs.
        begun = receive(self, seconds if begun == '{"begin": "case1"}' else PATIENCE_S)
        return begun

    monkeypatch.setattr(Worker, "receive", patient)

    results = check("ok", "hang", "ok", case_seconds=0.5)

    assert [result.status for result in results] == [Status.OK, Status.TIMEOUT, Status.OK]
    assert results[1].reason == "no result within 0.5 s"


def test_a_lost_device_is_one_failure_and_the_rest_is_checked_on_a_fresh_one() -> None:
    results = check("launch_error", "ok", "launch_error", "ok")

    assert [result.status for result in results] == [Status.LAUNCH_ERROR, Status.OK] * 2


def test_what_kernels_and_compilers_print_is_not_taken_for_a_result() -> None:
    assert [result.status for result in check("chatter", "ok")] == [Status.OK, Status.OK]


def test_a_worker_that_cannot_even_start_is_a_crash_of_every_case() -> None:
    results = check_isolated(
        ("one",), cases=2, command=lambda *_: [sys.executable, "-c", "raise SystemExit('no torch')"]
    )

    assert [(result.status, result.reason) for result in results] == [
        (Status.CRASH, "worker ended with code 1: no torch")
    ] * 2


def test_results_come_by_kernel_and_are_announced_as_they_come() -> None:
    seen: list[str] = []

    results = check_isolated(
        ("one", "two"),
        cases=2,
        command=lambda kernel, first: [sys.executable, "-c", WORKER, "ok,ok", kernel, str(first)],
        on_result=lambda result: seen.append(result.kernel),
    )

    assert [result.kernel for result in results] == ["one", "one", "two", "two"]
    assert sorted(seen) == ["one", "one", "two", "two"]


def test_an_interrupt_ends_the_workers() -> None:
    def interrupt(_result: CheckResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_isolated(
            ("one", "two"),
            cases=2,
            command=lambda kernel, first: [
                sys.executable, "-c", WORKER, "ok,ok" if kernel == "one" else "hang", kernel, str(first),
            ],
            on_result=interrupt,
        )  # fmt: skip
