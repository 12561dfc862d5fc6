"""The check of every kernel, in processes of their own: no failure ends the run, and none hides another.

Workers take cases from one queue, of whatever kernel, and print a line before and after each. When one dies (a crash of
the compiler, an access that poisons the CUDA context) or hangs, the case in progress gets that status, and a new worker
goes on with the next. What matters most comes first, case by case over all kernels, so that a check that is cut off has
missed the least: most of the time is spent compiling, and float32 in training takes the compiler longest.
"""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lords_bench.isolate import LostWorkerError, Worker, side_by_side
from lords_bench.kernel_check.cases import SHAPES, CheckCase, case_grid, case_name, make_case
from lords_bench.kernel_check.check import CheckResult, check_named
from lords_bench.kernel_check.training import TRAINING_CHECKS
from lords_bench.records.status import Status

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

CASE_SECONDS = 300
# A worker whose CUDA context is lost says so by this exit code, after it has reported the case.
LOST_DEVICE = 75

# Most of a check is compiling, on one core per worker.
MOST_WORKERS = 16

Judge = Callable[[str, CheckCase, "Decoder | None"], CheckResult]


def cases_of(kernel: str) -> tuple[dict[str, Any], ...]:
    """The part of `case_grid` that a kernel is checked on: all of it for a product, some shapes for training."""
    if kernel not in TRAINING_CHECKS:
        return case_grid()
    shapes = [SHAPES[place] for place in TRAINING_CHECKS[kernel].shapes]
    return tuple(case for case in case_grid() if (case["m"], case["n"], case["k"]) in shapes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A case of a kernel: its place in `cases_of` it, and its name."""

    kernel: str
    place: int
    case: str


def queue(kernels: tuple[str, ...], *, cases: int | None = None) -> tuple[Job, ...]:
    """Every case of every kernel: 16-bit activations first, then float32, that of training last; in turn by kernel.

    Args:
        kernels: names in `CHECKED`.
        cases: how many of the first of each; None is all.
    """
    found = [
        (_urgency(kernel, arguments["dtype"]), place, Job(kernel=kernel, place=place, case=case_name(**arguments)))
        for kernel in kernels
        for place, arguments in enumerate(cases_of(kernel)[:cases])
    ]
    return tuple(job for *_, job in sorted(found, key=lambda entry: entry[:2]))


def _urgency(kernel: str, dtype: torch.dtype) -> int:
    """Smaller is earlier."""
    return 0 if dtype.itemsize == 2 else 2 if kernel in TRAINING_CHECKS else 1


def worker_command(*jobs: str, module: str = "lords_bench.kernel_check.isolated") -> list[str]:
    """A process that checks the jobs, or those that it reads, as `KERNEL PLACE`; on the current CUDA device."""
    return [sys.executable, "-m", module, *jobs]


def check_isolated(
    kernels: tuple[str, ...],
    *,
    cases: int | None = None,
    workers: int | None = None,
    case_seconds: float = CASE_SECONDS,
    command: Sequence[str] | None = None,
    done: AbstractSet[tuple[str, str]] = frozenset(),
    on_result: Callable[[CheckResult], None] = lambda _result: None,
) -> tuple[CheckResult, ...]:
    """Check every kernel on every case of `cases_of` it; the results by kernel, in the order of the cases.

    Args:
        kernels: names in `CHECKED`.
        cases: how many of the first of each are checked; None is all of them.
        workers: how many at a time; None is one per core, at most 16.
        case_seconds: limit for one case, compiling included.
        command: the worker's command line; None is that of `worker_command`.
        done: (kernel, case) that need no check.
        on_result: called from several threads as results come.
    """
    waiting = deque(job for job in queue(kernels, cases=cases) if (job.kernel, job.case) not in done)
    found: dict[Job, CheckResult] = {}

    def work(_number: int) -> None:
        while waiting:
            with Worker(command or worker_command()) as worker:
                for job, result in _results(worker, waiting, case_seconds):
                    found[job] = result
                    on_result(result)

    threads = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    for _ in side_by_side(work, range(min(threads, len(waiting))), threads=threads):
        pass
    by_kernel = sorted(found, key=lambda job: (kernels.index(job.kernel), job.place))
    return tuple(found[job] for job in by_kernel)


def _results(worker: Worker, waiting: deque[Job], case_seconds: float) -> Iterable[tuple[Job, CheckResult]]:
    """What one worker finds until it ends or nothing waits; the job that it died in, if any, is the last."""
    is_new = True
    while True:
        try:
            job = waiting.popleft()
        except IndexError:
            return
        begun = False
        try:
            worker.send(f"{job.kernel} {job.place}")
            while (message := _message(worker.receive(case_seconds))) is None or "begin" in message:
                begun = begun or message is not None
        except LostWorkerError as lost:
            if begun or is_new:
                yield job, _lost(job, lost, case_seconds)
            else:
                # It ended behind the job before, as one without its device does: this one was not tried.
                waiting.appendleft(job)
            return
        is_new = False
        yield (
            job,
            CheckResult(
                kernel=job.kernel,
                case=message["case"],
                status=Status(message["status"]),
                reason=message["reason"],
                worst=message["worst"],
            ),
        )


def _lost(job: Job, lost: LostWorkerError, case_seconds: float) -> CheckResult:
    reason = f"worker ended with code {lost.exit_code}: {lost.words or 'no message'}"
    if lost.status is Status.TIMEOUT:
        reason = f"no result within {case_seconds:g} s"
    return CheckResult(kernel=job.kernel, case=job.case, status=lost.status, reason=reason, worst=None)


def _message(line: str) -> dict[str, Any] | None:
    """A line of a worker, if it is one; kernels and compilers print as well."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and ("begin" in message or "status" in message) else None


def main(
    jobs: Iterable[str], *, device: torch.device, decoder: "Decoder | None" = None, judge: Judge = check_named
) -> int:
    """The worker: check one job after the other and print a line of JSON before and after each.

    Args:
        jobs: as `KERNEL PLACE`, the place of a case in `cases_of` the kernel.
        device: that the cases are made on.
        decoder: None is the fastest that fits.
        judge: what a check is.
    """
    for job in jobs:
        kernel, place = job.split()
        case = make_case(**cases_of(kernel)[int(place)], device=device)
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
    sys.exit(main(sys.argv[1:] or sys.stdin, device=torch.device("cuda")))
