"""The check of every kernel, each in processes of its own: no failure ends the run, and none hides another.

A worker checks one kernel case by case and prints a line before and after each. When it dies (a crash of the compiler,
an access that poisons the CUDA context) or hangs, the case in progress gets that status, and a new worker goes on with
the next case. Kernels run side by side, as most of the time is spent compiling.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from lords_bench.kernel_check.cases import SHAPES, case_grid, make_case
from lords_bench.kernel_check.check import CheckResult, check_named
from lords_bench.kernel_check.training import TRAINING_CHECKS
from lords_bench.records.status import Status

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

CASE_SECONDS = 300
# A worker whose CUDA context is lost says so by this exit code, after it has reported the case.
LOST_DEVICE = 75

# Most of a check is compiling, on one core per kernel.
MOST_WORKERS = 16

_PR_SET_PDEATHSIG = 1

Command = Callable[[str, int], list[str]]


def cases_of(kernel: str) -> tuple[dict[str, Any], ...]:
    """The part of `case_grid` that a kernel is checked on: all of it for a product, some shapes for training."""
    if kernel not in TRAINING_CHECKS:
        return case_grid()
    shapes = [SHAPES[place] for place in TRAINING_CHECKS[kernel].shapes]
    return tuple(case for case in case_grid() if (case["m"], case["n"], case["k"]) in shapes)


def worker_command(kernel: str, first: int) -> list[str]:
    """A process that checks the kernel from case `first` on, on the current CUDA device."""
    return [sys.executable, "-m", "lords_bench.kernel_check.isolated", str(os.getpid()), kernel, str(first)]


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
    running: dict[str, subprocess.Popen[str]] = {}
    stopped = threading.Event()

    def run(kernel: str) -> list[CheckResult]:
        found: list[CheckResult] = []
        begin = first.get(kernel, 0)
        count = (len(cases_of(kernel)) if cases is None else cases) - begin
        while len(found) < count and not stopped.is_set():
            with subprocess.Popen(
                command(kernel, begin + len(found)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as process:
                running[kernel] = process
                with closing(_results(process, kernel, case_seconds)) as results:
                    for result in results:
                        found.append(result)
                        on_result(result)
        return found

    with ThreadPoolExecutor(max_workers=workers or min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        try:
            return tuple(result for results in pool.map(run, kernels) for result in results)
        except BaseException:
            stopped.set()
            for process in running.values():
                _kill(process)
            raise


def _results(process: "subprocess.Popen[str]", kernel: str, case_seconds: float) -> Generator[CheckResult]:
    """Results of one worker until it ends; the case that it died in, if any, is the last. At least one.

    Closing it before that kills the worker.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    # Read beside the results, or a worker that warns much would block on a full pipe.
    errors: list[str] = []
    reader = threading.Thread(target=errors.extend, args=(process.stderr,))
    reader.start()
    case: str | None = None
    finished = 0
    try:
        with _watchdog(process, case_seconds) as (rewind, expired):
            for line in process.stdout:
                rewind()
                message = _message(line)
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
    except BaseException:
        _kill(process)
        raise
    finally:
        reader.join()
    code = process.wait()
    if case is None and finished:
        return
    status = Status.TIMEOUT if expired.is_set() else Status.CRASH
    last = next((line.strip() for line in reversed(errors) if line.strip()), "no message")
    reason = f"no result within {case_seconds:g} s" if expired.is_set() else f"worker ended with code {code}: {last}"
    yield CheckResult(kernel=kernel, case=case or "before a case", status=status, reason=reason, worst=None)


def _message(line: str) -> dict[str, Any] | None:
    """A line of a worker, if it is one; kernels and compilers print as well."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and ("begin" in message or "status" in message) else None


@contextmanager
def _watchdog(process: "subprocess.Popen[str]", seconds: float) -> Iterator[tuple[Callable[[], None], threading.Event]]:
    """Kills the process group unless rewound within `seconds`; the event says that it did."""
    expired, moved, ended = threading.Event(), threading.Event(), threading.Event()

    def watch() -> None:
        while moved.wait(seconds):
            moved.clear()
            if ended.is_set():
                return
        expired.set()
        _kill(process)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield moved.set, expired
    finally:
        ended.set()
        moved.set()
        thread.join()


def _kill(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def die_with(parent: int | None) -> None:
    """Let Linux kill this process when `parent` is gone, so that nothing computes beside what is timed next.

    None is whoever started this process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before the kernel was told.
    if parent is not None and os.getppid() != parent:
        sys.exit(1)


def main(
    kernel: str, first: int, *, device: torch.device, decoder: "Decoder | None" = None, last: int | None = None
) -> int:
    """The worker: check `kernel` on the cases `first` up to `last` and print a line of JSON before and after each."""
    for arguments in cases_of(kernel)[first:last]:
        case = make_case(**arguments, device=device)
        _print({"begin": case.name})
        result = check_named(kernel, case, decoder)
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
    # 0 where another program, such as a memory checker, stands between the two.
    die_with(int(sys.argv[1]) or None)
    # With a fourth argument, up to that case only.
    end = int(sys.argv[4]) if len(sys.argv) > 4 else None
    sys.exit(main(sys.argv[2], int(sys.argv[3]), device=torch.device("cuda"), last=end))
