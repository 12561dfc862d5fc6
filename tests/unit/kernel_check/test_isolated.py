"""The isolated check: a worker that crashes, hangs, chatters or loses its device costs one case and hides none."""

import sys
from collections import Counter

import pytest

from lords_bench.isolate import Worker
from lords_bench.kernel_check import CHECKED, CheckResult
from lords_bench.kernel_check.cases import case_grid, case_name
from lords_bench.kernel_check.isolated import cases_of, check_isolated, queue
from lords_bench.kernel_check.training import TRAINING_CHECKS
from lords_bench.kernel_registry import KERNELS
from lords_bench.records.status import Status
from process_tree import PATIENCE_S

# A worker in a few lines: argv is what happens to each case.
WORKER = """
import json, os, sys, time
script = sys.argv[1].split(",")
for line in sys.stdin:
    kernel, place = line.split()
    what = script[int(place)]
    if what == "silent":
        os.abort()
    print(json.dumps({"begin": place}), flush=True)
    if what == "crash":
        print("Segmentation fault", file=sys.stderr, flush=True)
        os.abort()
    if what == "hang":
        time.sleep(600)
    if what == "chatter":
        print("a compiler says: {1}")
        print("warning " * 20000, file=sys.stderr)
    status = what if what == "launch_error" else "ok"
    reason = "context lost" if status == "launch_error" else None
    print(json.dumps({"case": place, "status": status, "reason": reason, "worst": 0.5}), flush=True)
    if status == "launch_error":
        sys.exit(75)
"""


def case_of(place: int) -> str:
    return case_name(**case_grid()[place])


def check(
    *script: str, kernels: tuple[str, ...] = ("one",), case_seconds: float = PATIENCE_S, workers: int = 1
) -> tuple[CheckResult, ...]:
    return check_isolated(
        kernels,
        cases=len(script),
        case_seconds=case_seconds,
        workers=workers,
        command=[sys.executable, "-c", WORKER, ",".join(script)],
    )


def test_a_crash_costs_its_case_and_the_next_worker_goes_on() -> None:
    results = check("ok", "crash", "ok")

    assert [result.status for result in results] == [Status.OK, Status.CRASH, Status.OK]
    assert [result.case for result in results] == ["0", case_of(1), "2"]
    assert results[1].reason == "worker ended with code -6: Segmentation fault"


def test_a_case_that_hangs_is_killed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    receive, begun = Worker.receive, ""

    def patient(self: Worker, seconds: float) -> str:
        nonlocal begun
        # A start and a case that is well take as long as the machine needs.
        begun = receive(self, seconds if begun == '{"begin": "1"}' else PATIENCE_S)
        return begun

    monkeypatch.setattr(Worker, "receive", patient)

    results = check("ok", "hang", "ok", case_seconds=0.5)

    assert [result.status for result in results] == [Status.OK, Status.TIMEOUT, Status.OK]
    assert results[1].reason == "no result within 0.5 s"


def test_a_lost_device_is_one_failure_and_the_rest_is_checked_on_a_fresh_one() -> None:
    results = check("launch_error", "ok", "launch_error", "ok")

    assert [result.status for result in results] == [Status.LAUNCH_ERROR, Status.OK] * 2


def test_a_worker_that_ends_before_it_begins_a_case_costs_that_case_once() -> None:
    results = check("ok", "silent", "ok")

    assert [result.status for result in results] == [Status.OK, Status.CRASH, Status.OK]
    assert results[1].reason == "worker ended with code -6: no message"


def test_what_kernels_and_compilers_print_is_not_taken_for_a_result() -> None:
    assert [result.status for result in check("chatter", "ok")] == [Status.OK, Status.OK]


def test_a_worker_that_cannot_even_start_is_a_crash_of_every_case() -> None:
    results = check_isolated(("one",), cases=2, command=[sys.executable, "-c", "raise SystemExit('no torch')"])

    assert [(result.status, result.reason) for result in results] == [
        (Status.CRASH, "worker ended with code 1: no torch")
    ] * 2


def test_results_come_by_kernel_and_are_announced_as_they_come() -> None:
    seen: list[str] = []

    results = check_isolated(
        ("one", "two"),
        cases=2,
        command=[sys.executable, "-c", WORKER, "ok,ok"],
        on_result=lambda result: seen.append(result.kernel),
    )

    assert [(result.kernel, result.case) for result in results] == [
        ("one", "0"),
        ("one", "1"),
        ("two", "0"),
        ("two", "1"),
    ]
    assert sorted(seen) == ["one", "one", "two", "two"]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_case_is_checked_once_whatever_the_workers_do(workers: int) -> None:
    results = check("ok", "crash", "launch_error", "silent", kernels=("one", "two", "three"), workers=workers)

    assert [result.status for result in results] == [
        Status.OK, Status.CRASH, Status.LAUNCH_ERROR, Status.CRASH
    ] * 3  # fmt: skip


def test_what_an_earlier_run_has_settled_is_not_checked_again() -> None:
    results = check_isolated(
        ("one",), cases=3, done={("one", case_of(1))}, command=[sys.executable, "-c", WORKER, "ok,crash,ok"]
    )

    assert [result.case for result in results] == ["0", "2"]


def test_an_interrupt_ends_the_workers() -> None:
    def interrupt(_result: CheckResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_isolated(
            ("one", "two"), cases=2, workers=2, command=[sys.executable, "-c", WORKER, "ok,hang"], on_result=interrupt
        )


def test_a_check_that_is_cut_off_has_done_16_bit_activations_of_every_kernel_and_float32_in_training_last() -> None:
    jobs = queue(CHECKED)

    kinds = [
        0 if not job.case.endswith("float32") else 2 if job.kernel in TRAINING_CHECKS else 1 for job in jobs
    ]  # fmt: skip
    assert kinds == sorted(kinds)
    assert {job.kernel for job in jobs[: len(CHECKED)]} == set(CHECKED)
    assert len(set(jobs)) == len(jobs) == sum(len(cases_of(kernel)) for kernel in CHECKED)


def test_no_kernel_of_a_cut_off_check_is_far_behind_another() -> None:
    jobs = [job for job in queue(CHECKED) if job.kernel not in TRAINING_CHECKS and not job.case.endswith("float32")]

    for cut in range(1, len(jobs)):
        counts = Counter(job.kernel for job in jobs[:cut])
        assert cut < len(KERNELS) or max(counts.values()) - min(counts.values()) <= 1
