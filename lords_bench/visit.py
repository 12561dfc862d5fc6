"""`lords-bench gpu`: spend a short visit to a GPU well, one step after another, and lose nothing when it is cut off.

    env        what the machine is, and what that means for trust in its numbers
    check      every kernel against float64
    quick      a few cold timings, so that even the shortest visit brings some
    tune       configurations for the layers of Llama-3-8B, within a budget
    latency    the whole latency suite as far as time allows, with what was tuned
    report     the pages

Every step is a process of its own with a limit of its own. It is asked to stop (SIGINT) when its time is up and
killed with its children when it does not; the next step runs in any case. Records are forced to disk line by line in
`--out` itself, so that what a killed visit leaves there is whole. The same command, or `--from` the folder that
an earlier visit left, goes on where that one stopped.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from lords_bench.errors import StoreError, UsageError

VisitDevice = Literal["cuda", "cpu", "fake"]
StepName = Literal["env", "check", "quick", "tune", "latency", "report"]
Ending = Literal["ok", "failed", "cut", "skipped"]

STEPS: tuple[StepName, ...] = get_args(StepName)
# Seconds kept for the last step, which reads what the others wrote.
REPORT_SECONDS = 25.0
# What a step may take beyond its own budget before it is asked to stop, and then before it is killed.
GRACE_SECONDS = 20.0
KILL_SECONDS = 8.0
LOG_NAME = "visit.jsonl"
# Parity ranks of Llama-3-8B's layers with blocks of 64 and 128 are 6 to 49, which kernels pad to these.
TUNED_RANKS = "16,32,64"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One process of a visit.

    Attributes:
        arguments: of `lords-bench`; `{minutes}` and `{seconds}` stand for the step's own budget.
        share: of the time that is left when the step begins, the report's reserve aside.
        most_s: never more than this; None = no such limit.
        once: whether it is left out once it has ended well.
        again: how often it is started again after a failure, while its time lasts; it goes on behind what failed.
    """

    name: StepName
    arguments: tuple[str, ...]
    share: float
    most_s: float | None = None
    once: bool = False
    again: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """How a step ended: one line of the visit's log."""

    name: StepName
    ending: Ending
    seconds: float
    exit_code: int | None
    why: str | None


def plan(device: VisitDevice, out: Path, *, chosen: tuple[StepName, ...] = STEPS) -> tuple[Step, ...]:
    """The steps of a visit in order.

    Args:
        device: what is visited; a processor and a fake device have no kernels to check.
        out: folder that everything is written to.
        chosen: only these.
    """
    reports = ("--out", str(out / "reports"))
    on = {"cuda": ("--device", "cuda"), "cpu": ("--device", "cpu"), "fake": ("--fake",)}[device]
    latency = ("bench", "latency", *on, *reports, "--minutes", "{minutes}")
    quick = {"cuda": ("--regimes", "cold", "--m", "1,16,256"), "cpu": ("--m", "1"), "fake": ("--m", "1")}[device]
    full = {"cuda": ("--full",), "cpu": (), "fake": ("--m", "1,256")}[device]
    ranks = ("--ranks", TUNED_RANKS) if device == "cuda" else ()
    tune = ("tune", "--device", device, "--out", str(out / "tuned"), "--budget", "{seconds}s", *ranks)
    steps = (
        Step(name="env", arguments=("env",), share=0.2, most_s=60.0),
        Step(name="check", arguments=("kernels", "--check"), share=0.35, most_s=150.0, once=True),
        Step(name="quick", arguments=(*latency, *quick), share=0.2, most_s=90.0, again=1),
        Step(name="tune", arguments=tune, share=0.55),
        Step(name="latency", arguments=(*latency, *full), share=1.0, again=3),
        Step(name="report", arguments=("report", *reports), share=1.0),
    )
    return tuple(step for step in steps if step.name in chosen and (device == "cuda" or step.name != "check"))


def visit(
    steps: tuple[Step, ...],
    out: Path,
    *,
    minutes: float,
    say: Callable[[str], None],
    program: tuple[str, ...] = (sys.executable, "-m", "lords_bench"),
) -> tuple[StepResult, ...]:
    """Run the steps within the time; returns how each ended, also those that time did not reach.

    Args:
        steps: in order.
        out: folder for records, pages, tables and logs.
        minutes: for everything.
        say: told what happens, a line at a time.
        program: what the steps are arguments of.

    Raises:
        StoreError: the folder cannot be written.
    """
    ends = time.monotonic() + 60 * minutes
    log = out / LOG_NAME
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
        done = {result.name for result in read_log(log) if result.ending == "ok"}
    except OSError as error:
        raise StoreError(f"cannot use {str(out)!r}: {error.strerror or error}; give another --out") from None
    environment = {**os.environ, "LORDS_BENCH_TUNED": str(out / "tuned"), "HF_HUB_OFFLINE": "1"}
    results = []
    for step in steps:
        left = ends - time.monotonic() - (0.0 if step.name == "report" else REPORT_SECONDS)
        seconds = left * step.share if step.most_s is None else min(step.most_s, left * step.share)
        if step.once and step.name in done:
            result = _left_out(step, "it has ended well before")
        elif step.name != "report" and seconds < 1:
            result = _left_out(step, "no time is left")
        else:
            say(f"{step.name}: {seconds:.0f} s")
            until = time.monotonic() + seconds
            result = _run(step, program, seconds, out / "logs" / f"{step.name}.log", environment)
            for _ in range(step.again):
                if result.ending != "failed" or until - time.monotonic() < 1:
                    break
                say(f"{step.name}: failed, {result.why}; once more")
                result = _run(step, program, until - time.monotonic(), out / "logs" / f"{step.name}.log", environment)
        _append(log, result)
        results.append(result)
        why = f", {result.why}" if result.why else ""
        say(f"{step.name}: {result.ending} after {result.seconds:.0f} s{why}")
    return tuple(results)


def _left_out(step: Step, why: str) -> StepResult:
    return StepResult(name=step.name, ending="skipped", seconds=0.0, exit_code=None, why=why)


def read_log(path: Path) -> tuple[StepResult, ...]:
    """How the steps of earlier visits ended; lines that are none are passed over."""
    if not path.is_file():
        return ()
    results = []
    for line in path.read_text("utf-8").splitlines():
        try:
            results.append(StepResult(**json.loads(line)))
        except (ValueError, TypeError):  # a line that a kill tore; the step counts as not done
            continue
    return tuple(results)


def copy_earlier(earlier: Path, out: Path) -> None:
    """Take over what an earlier visit left, where the folder has none of its own yet.

    Raises:
        UsageError: there is no such folder.
        StoreError: it cannot be copied.
    """
    if not earlier.is_dir():
        raise UsageError(f"--from {str(earlier)!r} is no folder; give the one that an earlier visit wrote")
    for path in sorted(earlier.rglob("*")):
        target = out / path.relative_to(earlier)
        if path.is_file() and path.suffix == ".jsonl" and not target.exists():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
            except OSError as error:
                raise StoreError(
                    f"cannot write {str(target)!r}: {error.strerror or error}; give another --out"
                ) from None


def _run(step: Step, program: tuple[str, ...], seconds: float, log: Path, environment: Mapping[str, str]) -> StepResult:
    """One step in a session of its own; what it prints goes to its log."""
    # A step that is told its budget ends by itself; the limit is for one that does not.
    budget = max(1.0, seconds - GRACE_SECONDS) if seconds > 2 * GRACE_SECONDS else max(1.0, seconds / 2)
    arguments = [text.format(minutes=f"{budget / 60:.3f}", seconds=f"{budget:.0f}") for text in step.arguments]
    begin = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*program, *arguments], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip
        cut = _wait(process, seconds)
    spent, code = round(time.monotonic() - begin, 1), process.returncode
    if cut:
        why = f"its time was up; what it had finished is kept ({log.name})"
        return StepResult(name=step.name, ending="cut", seconds=spent, exit_code=code, why=why)
    if code:
        return StepResult(name=step.name, ending="failed", seconds=spent, exit_code=code, why=_last_line(log))
    return StepResult(name=step.name, ending="ok", seconds=spent, exit_code=0, why=None)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process had to be stopped; its children are gone in any case."""
    try:
        process.wait(timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGINT)
        try:
            process.wait(timeout=KILL_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
        return True
    finally:
        _signal(process, signal.SIGKILL)
    return False


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the whole process group, which `start_new_session` made; one that is gone is none."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def _append(log: Path, result: StepResult) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")
        file.flush()
        os.fsync(file.fileno())
