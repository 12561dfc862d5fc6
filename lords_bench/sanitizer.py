"""`compute-sanitizer` on one small case of every kernel: memcheck for accesses out of bounds, racecheck for races.

The tool runs the same worker as the check against float64, so that what it watches is what was checked. It may be
absent, or refuse the device (virtual machines): that is a record in its own words, never a silent gap.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lords_bench.errors import reason_of
from lords_bench.isolate import run, side_by_side
from lords_bench.kernel_check.cases import case_name
from lords_bench.kernel_check.isolated import cases_of, worker_command
from lords_bench.records.check import CheckTool
from lords_bench.records.status import Status

PROGRAM = "compute-sanitizer"
CHECKERS: tuple[CheckTool, ...] = ("memcheck", "racecheck")
# Where CUDA puts it when it is on no path.
USUAL_PLACES = ("/usr/local/cuda/bin/compute-sanitizer", "/usr/local/cuda/compute-sanitizer/compute-sanitizer")
FOUND_SOMETHING = 86
CASE_SECONDS = 120.0
# A watched process needs a core and some hundred megabytes of the GPU.
WORKERS = 6
# Plain PyTorch: nothing of this project runs on the GPU.
NOT_WATCHED = frozenset({"reference"})

_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (?P<count>\d+)")
_FINDING = re.compile(r"=+ (?P<text>(?:Invalid|Error:|Warning:|Race|Out-of-range|Misaligned|Program hit|Memory).*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What a checker said of one kernel; `reason` is None exactly when the status is ok."""

    tool: CheckTool
    kernel: str
    case: str
    status: Status
    reason: str | None


def find_program() -> str | None:
    """Path of the tool; None where there is none."""
    return shutil.which(PROGRAM) or next((path for path in USUAL_PLACES if os.access(path, os.X_OK)), None)


def watch_all(
    kernels: Sequence[str],
    *,
    program: str | None,
    tools: Sequence[CheckTool] = CHECKERS,
    workers: int = WORKERS,
    case_seconds: float = CASE_SECONDS,
    on_result: Callable[[Watched], None] = lambda _watched: None,
) -> tuple[Watched, ...]:
    """Run every tool on the first case of every kernel, the most telling tool first.

    Args:
        kernels: names in `kernel_check.CHECKED`.
        program: path of the tool; None = there is none, which is said once per tool and kernel.
        tools: which checkers.
        workers: at a time.
        case_seconds: limit of one case, compiling included.
        on_result: called from several threads.
    """
    jobs = [(tool, kernel) for tool in tools for kernel in kernels if kernel not in NOT_WATCHED]

    def one(job: tuple[CheckTool, str]) -> Watched:
        found = watch(*job, program=program, case_seconds=case_seconds)
        on_result(found)
        return found

    return tuple(side_by_side(one, jobs, threads=max(1, workers)))


def watch(tool: CheckTool, kernel: str, *, program: str | None, case_seconds: float = CASE_SECONDS) -> Watched:
    """One kernel on its first case under one checker."""
    case = case_name(**cases_of(kernel)[0])

    def watched(status: Status, reason: str | None) -> Watched:
        return Watched(tool=tool, kernel=kernel, case=case, status=status, reason=reason)

    if program is None:
        return watched(Status.UNSUPPORTED, f"{PROGRAM} is not on this machine")
    # Without torch's cache every tensor is an allocation of its own, whose ends the tool knows.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    command = [program, "--tool", tool, "--error-exitcode", str(FOUND_SOMETHING), *worker(kernel)]
    try:
        ended = run(
            command,
            seconds=case_seconds,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return watched(Status.TIMEOUT, f"no word of {PROGRAM} within {case_seconds:g} s")
    except OSError as error:
        return watched(Status.UNSUPPORTED, f"{program} cannot be started: {reason_of(error)}")
    return watched(*judged(ended.returncode, f"{ended.stdout}\n{ended.stderr}"))


def worker(kernel: str) -> list[str]:
    """The command that is watched: the first case of a kernel, on the current CUDA device."""
    return worker_command(f"{kernel} 0")


def judged(exit_code: int, output: str) -> tuple[Status, str | None]:
    """Status and reason from what the tool printed.

    Without its summary nothing was watched to the end: the tool, or what it watched, did not work, and its last words
    are the reason.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    summaries = [int(match["count"]) for line in lines if (match := _SUMMARY.search(line))]
    if not summaries:
        told = [line.lstrip("= ") for line in lines if line.startswith("=====")] or lines
        return Status.UNSUPPORTED, f"no summary: {told[-1] if told else 'it printed nothing'}, exit code {exit_code}"
    if max(summaries) or exit_code == FOUND_SOMETHING:
        first = next((match["text"] for line in lines if (match := _FINDING.search(line))), lines[-1])
        return Status.INCORRECT, f"{max(summaries)} findings, the first: {first.strip()}"
    statuses = [line for line in lines if '"status"' in line]
    if exit_code or not statuses:
        return Status.CRASH, f"nothing found, but the kernel's process ended with code {exit_code}: {lines[-1]}"
    if '"status": "ok"' not in statuses[-1]:
        return Status.UNSUPPORTED, f"nothing found, but the kernel did not do the case: {statuses[-1]}"
    return Status.OK, None
