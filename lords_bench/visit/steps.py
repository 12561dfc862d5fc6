"""Runs the steps of a visit; how each ended is one line of the visit's log.

Every step is a process of its own with a limit of its own. It is asked to stop (SIGINT) when its time is up and
killed with its children when it does not; the next step runs in any case. Records are forced to disk line by line in
`out` itself, so that what a killed visit leaves there is whole.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lords_bench.errors import StoreError, reason_of
from lords_bench.isolate import ProcessGroup
from lords_bench.records.codec import from_plain
from lords_bench.records.lines import add_line, read_limited
from lords_bench.strict_json import parse_json
from lords_bench.text import one_line

Ending = Literal["ok", "failed", "cut", "skipped"]

# The last step, which reads what the others wrote, and the seconds kept for it.
REPORT = "report"
REPORT_SECONDS = 25.0
# What a step may take beyond its own budget before it is asked to stop, and then before it is killed.
GRACE_SECONDS = 20.0
KILL_SECONDS = 8.0
# While a step runs, what it has found is packed so often.
MEANWHILE_SECONDS = 20.0
LOG_NAME = "visit.jsonl"
MOST_LOG_BYTES = 4 * 2**20
# Of what a step printed, as much of the end as its last line is looked for in.
_WORDS_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One process of a visit.

    Attributes:
        arguments: of `lords-bench`; `{minutes}` and `{seconds}` stand for the step's own budget.
        nominal_s: what it is given in a visit that goes as planned. What is left of a visit, the report's reserve
            aside, is divided among the steps to come in proportion to it.
        most_s: never more than this; None = no such limit.
        once: whether it is left out once it has ended well.
        again: how often it is started again after a failure, while its time lasts; it goes on behind what failed.
    """

    name: str
    arguments: tuple[str, ...]
    nominal_s: float
    most_s: float | None = None
    once: bool = False
    again: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """How a step ended: one line of the visit's log."""

    name: str
    ending: Ending
    seconds: float
    exit_code: int | None
    why: str | None


def visit(
    steps: tuple[Step, ...],
    out: Path,
    *,
    minutes: float,
    say: Callable[[str], None],
    program: tuple[str, ...] = (sys.executable, "-m", "lords_bench"),
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[StepResult, ...]:
    """Run the steps within the time; returns how each ended, also those that time did not reach.

    Args:
        steps: in order.
        out: folder for records, pages, tables and logs.
        minutes: for everything.
        say: told what happens, a line at a time.
        program: what the steps are arguments of.
        meanwhile: called every now and then while a step runs, and after each.

    Raises:
        StoreError: the folder cannot be written.
    """
    ends = time.monotonic() + 60 * minutes
    log = out / LOG_NAME
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
        done = {result.name for result in read_log(log) if result.ending == "ok"}
    except OSError as error:
        raise StoreError(f"cannot use {str(out)!r}: {reason_of(error)}; give another --out") from None
    environment = {**os.environ, "LORDS_BENCH_TUNED": str(out / "tuned"), "HF_HUB_OFFLINE": "1"}
    results = []
    for number, step in enumerate(steps):
        reserve = REPORT_SECONDS if any(later.name == REPORT for later in steps[number + 1 :]) else 0.0
        left = ends - time.monotonic() - reserve
        to_come = [later for later in steps[number:] if later is step or not _is_left(later, done)]
        seconds = left * step.nominal_s / sum(later.nominal_s for later in to_come)
        seconds = seconds if step.most_s is None else min(step.most_s, seconds)
        if step.once and step.name in done:
            result = _left_out(step, "it has ended well before")
        elif step.name != REPORT and seconds < 1:
            result = _left_out(step, "no time is left")
        else:
            say(f"{step.name}: {seconds:.0f} s")
            until = time.monotonic() + seconds
            log_file = out / "logs" / f"{step.name}.log"
            result = _run(step, program, seconds, log_file, environment, meanwhile)
            for _ in range(step.again):
                if result.ending != "failed" or until - time.monotonic() < 1:
                    break
                say(f"{step.name}: failed, {result.why}; once more")
                result = _run(step, program, until - time.monotonic(), log_file, environment, meanwhile)
        _append(log, result)
        results.append(result)
        why = f", {result.why}" if result.why else ""
        say(f"{step.name}: {result.ending} after {result.seconds:.0f} s{why}")
        meanwhile()
    return tuple(results)


def _is_left(step: Step, done: set[str]) -> bool:
    """Whether it takes no time: it is done, or its time is kept aside."""
    return step.name == REPORT or (step.once and step.name in done)


def _left_out(step: Step, why: str) -> StepResult:
    return StepResult(name=step.name, ending="skipped", seconds=0.0, exit_code=None, why=why)


def read_log(path: Path) -> tuple[StepResult, ...]:
    """How the steps of earlier visits ended; lines that are none are passed over."""
    return tuple(result for _, result in log_lines(path))


def log_lines(path: Path) -> tuple[tuple[bytes, StepResult], ...]:
    """The lines of a visit's log that say how a step ended, and what they say.

    Raises:
        RecordError: the file is larger than any log.
    """
    if not path.is_file():
        return ()
    found = []
    for line in read_limited(path, MOST_LOG_BYTES).split(b"\n"):
        try:
            result: StepResult = from_plain(StepResult, parse_json(line), path="step")
        except ValueError:  # a line that a kill tore; the step counts as not done
            continue
        found.append((line, result))
    return tuple(found)


def _run(
    step: Step,
    program: tuple[str, ...],
    seconds: float,
    log: Path,
    environment: Mapping[str, str],
    meanwhile: Callable[[], None],
) -> StepResult:
    """One step in a process group of its own, gone with its children at the end; what it prints goes to its log."""
    # A step that is told its budget ends by itself; the limit is for one that does not.
    budget = max(1.0, seconds - GRACE_SECONDS) if seconds > 2 * GRACE_SECONDS else max(1.0, seconds / 2)
    arguments = [text.format(minutes=f"{budget / 60:.3f}", seconds=f"{budget:.0f}") for text in step.arguments]
    begin = time.monotonic()
    with log.open("ab") as file, ProcessGroup() as group:
        process = group.start([*program, *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment)
        cut = _wait(process, group, seconds, meanwhile)
    spent, code = round(time.monotonic() - begin, 1), process.returncode
    if cut:
        why = f"its time was up; what it had finished is kept ({log.name})"
        return StepResult(name=step.name, ending="cut", seconds=spent, exit_code=code, why=why)
    if code:
        return StepResult(name=step.name, ending="failed", seconds=spent, exit_code=code, why=last_line(log))
    return StepResult(name=step.name, ending="ok", seconds=spent, exit_code=0, why=None)


def _wait(
    process: "subprocess.Popen[bytes]", group: ProcessGroup, seconds: float, meanwhile: Callable[[], None]
) -> bool:
    """Whether the process had to be stopped."""
    until = time.monotonic() + max(1.0, seconds)
    while True:
        left = until - time.monotonic()
        try:
            process.wait(timeout=max(0.0, min(left, MEANWHILE_SECONDS)))
        except subprocess.TimeoutExpired:
            if left > MEANWHILE_SECONDS:
                meanwhile()
                continue
            group.signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=KILL_SECONDS)
            group.signal(signal.SIGKILL)
            process.wait()
            return True
        return False


def last_line(log: Path) -> str:
    """The last line of a log that says something, visible and of bounded length."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _WORDS_BYTES))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return one_line(lines[-1], most=300) if lines else "it said nothing"


def _append(log: Path, result: StepResult) -> None:
    add_line(log, f"{json.dumps(asdict(result))}\n".encode())
