"""The check of every kernel, each in processes of its own: no failure ends the run, and none hides another.

A worker checks one kernel case by case and prints a line before and after each. When it dies (a crash of the compiler,
an access that poisons the CUDA context) or hangs, the case in progress gets that status, and a new worker goes on with
the next case. Kernels run side by side, as most of the time is spent compiling.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from lords_bench.isolate import LostWorkerError, Worker, side_by_side
from lords_bench.kernel_check.cases import SHAPES, case_grid, make_case
from lords_bench.kernel_check.check import CheckResult, check_named
from lords_bench.kernel_check.training import TRAINING_CHECKS
from lords_bench.kernels.common.check_case import CheckCase
from lords_bench.records.status import Status

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

CASE_SECONDS = 300
# A worker whose CUDA context is lost says so by this exit code, after it has reported the case.
LOST_DEVICE = 75

# Most of a check is compiling, on one core per kernel.
MOST_WORKERS = 16

Command = Callable[[str, int], list[str]]
Judge = Callable[[str, CheckCase, "Decoder | None"], CheckResult]


def cases_of(kernel: str) -> tuple[dict[str, Any], ...]:
    """The part of `case_grid` that a kernel is checked on: all of it for a product, some shapes for training."""
    if kernel not in TRAINING_CHECKS:
        return case_grid()
    shapes = [SHAPES[place] for place in TRAINING_CHECKS[kernel].shapes]
    return tuple(case for case in case_grid() if (case["m"], case["n"], case["k"]) in shapes)


def worker_command(kernel: str, first: int, *, module: str = "lords_bench.kernel_check.isolated") -> list[str]:
    """A process that checks the kernel from case `first` on; this module's on the current CUDA device."""
    return [sys.executable, "-m", module, kernel, str(first)]


def check_isolated(
    kernels: tuple[str, ...],
    *,
    cases: int | None = None,
    workers: int | None = None,
    case_seconds: float = CASE_SECONDS,
    command: Command = worker_command,
    first: Mapping[str, int] = MappingProxyType({}),
    on_result: Callable[[CheckResult], None] = lambda _result: None,
) -> tuple[CheckResult, ...]:
    """Check every kernel on every case of `cases_of` it; the results by kernel, in the order of the cases.

    Args:
        kernels: names in `CHECKED`.
        cases: how many of its cases a worker goes through; None is all of them.
        workers: kernels at a time; None is one per core, at most 16.
        case_seconds: limit for one case, compiling included.
        command: the worker's command line for a kernel and the case it begins with.
        first: kernel to the case that it begins with, where that is not the first.
        on_result: called from several threads as results come.
    """

    def run(kernel: str) -> list[CheckResult]:
        found: list[CheckResult] = []
        begin = first.get(kernel, 0)
        count = (len(cases_of(kernel)) if cases is None else cases) - begin
        while len(found) < count:
            with Worker(command(kernel, begin + len(found))) as worker:
                for result in _results(worker, kernel, case_seconds):
                    found.append(result)
                    on_result(result)
        return found

    threads = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    return tuple(result for results in side_by_side(run, kernels, threads=threads) for result in results)


def _results(worker: Worker, kernel: str, case_seconds: float) -> Iterator[CheckResult]:
    """Results of one worker until it ends; the case that it died in, if any, is the last. At least one."""
    case: str | None = None
    finished = 0
    while True:
        try:
            message = _message(worker.receive(case_seconds))
        except LostWorkerError as lost:
            if case is not None or not finished:
                yield _lost(kernel, case, lost, case_seconds)
            return
        if message is None:
            continue
        case = message.get("begin")
        if case is None:
            finished += 1
            yield CheckResult(
                kernel=kernel,
                case=message["case"],
                status=Status(message["status"]),
                reason=message["reason"],
                worst=message["worst"],
            )


def _lost(kernel: str, case: str | None, lost: LostWorkerError, case_seconds: float) -> CheckResult:
    reason = f"worker ended with code {lost.exit_code}: {lost.words or 'no message'}"
    if lost.status is Status.TIMEOUT:
        reason = f"no result within {case_seconds:g} s"
    return CheckResult(kernel=kernel, case=case or "before a case", status=lost.status, reason=reason, worst=None)


def _message(line: str) -> dict[str, Any] | None:
    """A line of a worker, if it is one; kernels and compilers print as well."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and ("begin" in message or "status" in message) else None


def main(
    kernel: str,
    first: int,
    *,
    device: torch.device,
    decoder: "Decoder | None" = None,
    last: int | None = None,
    judge: Judge = check_named,
) -> int:
    """The worker: check `kernel` on the cases `first` up to `last` and print a line of JSON before and after each.

    Args:
        kernel: in `CHECKED`.
        first: place of the first case.
        device: that the cases are made on.
        decoder: None is the fastest that fits.
        last: place behind the last case; None is the end.
        judge: what a check is.
    """
    for arguments in cases_of(kernel)[first:last]:
        case = make_case(**arguments, device=device)
        _print({"begin": case.name})
        result = judge(kernel, case, decoder)
        _print({**{name: getattr(result, name) for name in CheckResult.__slots__}, "status": result.status.value})
        if result.status is Status.LAUNCH_ERROR and device.type == "cuda" and not _device_lives():
            return LOST_DEVICE
    return 0


def _device_lives() -> bool:
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _print(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201  (lines for the parent process)


if __name__ == "__main__":
    # With a third argument, up to that case only.
    end = int(sys.argv[3]) if len(sys.argv) > 3 else None
    sys.exit(main(sys.argv[1], int(sys.argv[2]), device=torch.device("cuda"), last=end))
