"""`lords-bench kernels`: the kernels' machine code without a GPU (`--static`), or their results (`--check`).

Results are those of this machine's GPU, or of one that is not there: compiled for it and executed in an emulator, which
also counts what a product executes (`--profile`, in `profile.py`).
"""

import argparse
import threading
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lords_bench.cli import profile
from lords_bench.cli.command import Parser
from lords_bench.errors import UsageError
from lords_bench.options import WORKERS
from lords_bench.records.status import Status

if TYPE_CHECKING:
    from lords_bench.kernel_check import CheckResult
    from lords_bench.records.check import CheckTool


def add_arguments(parser: Parser) -> None:
    parser.description = "Exit code 0: everything within budget or correct; 1: not; 2: it could not be tried."
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--static", action="store_true", help="compile for every architecture and print budgets and bounds"
    )
    what.add_argument("--check", action="store_true", help="compare every kernel with float64")
    what.add_argument("--sanitize", action="store_true", help="memcheck and racecheck on one small case per kernel")
    profile.add_arguments(parser, what)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of records: --check and --sanitize keep what they find below DIR/records, --profile looks there "
        "for measurements (default: reports)",
    )
    parser.add_argument("--only", type=str, metavar="TEXT", default="", help="kernels whose name contains TEXT")
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="for --check and --profile: emulated-sm_90 and its like, in place of this machine's GPU",
    )
    parser.add_argument("--targets", metavar="NAME", nargs="+", help="architectures for --static, as sm_90 or gfx942")
    parser.add_argument("--workers", type=WORKERS, metavar="N", help="processes at a time (default: one per core)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where compiled results are kept")
    parser.finish(run)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked and print it; returns the exit code.

    Raises:
        UsageError: unknown target, device or kernel, or no GPU to check on.
    """
    if arguments.profile is not None:
        return profile.run(arguments)
    if arguments.gpu is not None:
        raise UsageError(f"--gpu {arguments.gpu} goes with --profile, which predicts a time on it; leave it out")
    if arguments.device is not None and not arguments.check:
        raise UsageError(
            f"--device {arguments.device} goes with --check and --profile; name architectures of --static by --targets"
        )
    if arguments.static:
        return run_static(
            only=arguments.only, targets=arguments.targets, workers=arguments.workers, cache_dir=arguments.cache
        )
    command = getattr(arguments, "command", "lords-bench kernels")
    only, workers, out = arguments.only, arguments.workers, arguments.out
    if arguments.sanitize:
        return run_sanitizer(only=only, workers=workers, out=out, command=command)
    return run_check(only=only, workers=workers, out=out, command=command, device=arguments.device)


def run_static(
    *, only: str = "", targets: list[str] | None = None, workers: int | None = None, cache_dir: Path | None = None
) -> int:
    """Compile the shipped kernels, print what their machine code says; 1 if a budget is broken.

    With another Triton than that of the budgets only what does not compile counts.

    Raises:
        UsageError: unknown target, or nothing to compile.
    """
    from lords_bench.cli.progress import steps
    from lords_bench.kernels.common.budget import COUNTED_WITH_TRITON
    from lords_bench.static import tables
    from lords_bench.static.cases import known_exceptions, shipped_cases
    from lords_bench.static.suite import static_reports
    from lords_bench.static.target import TARGETS, named_target
    from lords_bench.terminal import Console

    names = tuple(named_target(name).name for name in targets or TARGETS)
    chosen = [case for case in shipped_cases(names) if only in case.label]
    if not chosen:
        raise UsageError(f"no kernel contains {only!r} on {', '.join(names)}; leave --only and --targets out")
    console = Console()
    with steps("compiling", len(chosen), console=console) as on_result:
        reports = static_reports(chosen, workers=workers, cache_dir=cache_dir, on_result=on_result)
    for make in (tables.machine_code_table, tables.bounds_table, tables.amd_table, tables.failures_table):
        console.print_table(make(reports))
    outside = {(report.label, report.target): "; ".join(report.violations) for report in reports if report.violations}
    installed = version("triton")
    excused = known_exceptions(installed)
    known = [key for key, text in outside.items() if excused.get(key) == text]
    console.print(
        f"{len(reports)} kernels compiled, {len(outside)} outside their budget, {len(known)} of those as known"
    )
    if installed != COUNTED_WITH_TRITON:
        console.print(f"budgets are those of Triton {COUNTED_WITH_TRITON}: with {installed} this is told, not judged")
        return 1 if any(report.status is not Status.OK for report in reports) else 0
    return 1 if len(known) < len(outside) else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where kernels are checked.

    Attributes:
        words: behind "Kernels against float64".
        worker: the command line of a worker.
        emulated: the target that is emulated; None is a GPU.
        not_counted: kinds of the emulator's faults that are not held against a kernel, with the reason.
    """

    words: str
    worker: list[str]
    emulated: str | None = None
    not_counted: tuple[str, ...] = ()


def _place(device: str | None) -> _Place:
    """The current CUDA device, or the emulated one of that name.

    Raises:
        UsageError: no CUDA device, or an unknown name.
    """
    if device is None:
        import torch

        from lords_bench.kernel_check.isolated import worker_command

        _require_cuda()
        return _Place(words=f"on {torch.cuda.get_device_name()}", worker=worker_command())
    from lords_bench.emulator.faults import FaultKind
    from lords_bench.emulator.target import emulated_gpu
    from lords_bench.kernel_check.emulated import emulated_command, excuse

    name = emulated_gpu(device).name
    excused = [(kind, reason) for kind in FaultKind if (reason := excuse(kind)) is not None]
    return _Place(
        words=f"compiled for {name} and executed in an emulator, not run on a GPU",
        worker=emulated_command(name),
        emulated=name,
        not_counted=tuple(f"{kind}: {reason}" for kind, reason in excused),
    )


def run_check(
    *,
    only: str = "",
    workers: int | None = None,
    out: Path | None = None,
    command: str = "lords-bench kernels --check",
    device: str | None = None,
) -> int:
    """Check the kernels, print a table and every failure; 1 if there is one.

    With `out` every result is on disk as it comes, and a check that was cut short goes on.

    Args:
        only: what kernels' names contain.
        workers: processes at a time; None is one per core.
        out: folder of records; None keeps nothing.
        command: the command line, for the records.
        device: `emulated-sm_90` and its like; None is the current CUDA device.

    Raises:
        UsageError: no CUDA device, no such device or kernel.
        StoreError: the folder refuses.
    """
    from lords_bench.cli.progress import steps
    from lords_bench.kernel_check.isolated import check_isolated, queue
    from lords_bench.static.tables import TextTable
    from lords_bench.terminal import Console

    place = _place(device)
    kernels = _kernels(only)
    console = Console()
    jobs = queue(kernels)
    with _Kept(out, command, place, len(jobs)) as kept:
        done = kept.settled() & {(job.kernel, job.case) for job in jobs}
        with steps("checking", len(jobs), console=console, done=len(done)) as advance:

            def on_result(result: "CheckResult") -> None:
                kept.add("float64", result.kernel, result.case, result.status, result.reason, result.worst)
                advance(result)

            results = check_isolated(kernels, workers=workers, command=place.worker, done=done, on_result=on_result)
    title = f"Kernels against float64 {place.words}"
    columns = ("kernel", "bits", "dtype", "ok", "refused", "wrong", "worst error / bound")
    console.print_table(TextTable(title=title, columns=columns, rows=check_rows(results)))
    wrong = [result for result in results if result.status not in (Status.OK, Status.UNSUPPORTED)]
    for result in wrong:
        console.print(f"{result.kernel} {result.case}: {result.status}: {result.reason}", soft_wrap=True)
    for reason in place.not_counted:
        console.print(f"not counted: {reason}", soft_wrap=True)
    earlier = f", {len(done)} more in an earlier run" if done else ""
    console.print(f"{len(results)} checks, {len(wrong)} wrong{earlier}")
    return 1 if wrong else 0


def run_sanitizer(
    *,
    only: str = "",
    workers: int | None = None,
    out: Path | None = None,
    command: str = "lords-bench kernels --sanitize",
) -> int:
    """Watch one small case of every kernel by `compute-sanitizer`, print what it says; 1 if it finds anything.

    Raises:
        UsageError: no CUDA device, or no such kernel.
        StoreError: the folder refuses.
    """
    from lords_bench.sanitizer import WORKERS, Watched, find_program, watch_all
    from lords_bench.terminal import Console

    _require_cuda()
    kernels = _kernels(only)
    console = Console()
    with _Kept(out, command, None) as kept:

        def on_result(found: Watched) -> None:
            kept.add(found.tool, found.kernel, found.case, found.status, found.reason, None)
            said = "nothing found" if found.reason is None else f"{found.status}: {found.reason}"
            console.print(f"{found.tool} {found.kernel} {found.case}: {said}", soft_wrap=True)

        results = watch_all(kernels, program=find_program(), workers=workers or WORKERS, on_result=on_result)
    return 1 if any(found.status not in (Status.OK, Status.UNSUPPORTED) for found in results) else 0


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "no CUDA device to check the kernels on; `--static` needs none, nor does `--device emulated-sm_90`"
        )


def _kernels(only: str) -> tuple[str, ...]:
    from lords_bench.kernel_check import CHECKED

    kernels = tuple(name for name in CHECKED if only in name)
    if not kernels:
        raise UsageError(f"no kernel contains {only!r}; known: {', '.join(CHECKED)}")
    return kernels


class _Kept:
    """Check records on disk as they come, as a context manager; keeps nothing where there is no folder."""

    def __init__(self, out: Path | None, command: str, place: _Place | None, planned: int | None = None) -> None:
        from lords_bench.records.check import CheckRecord, check_folder
        from lords_bench.records.store import NounStore

        self._command, self._planned, self._turn = command, planned, threading.Lock()
        self._emulated, self._not_counted = (place.emulated, place.not_counted) if place is not None else (None, ())
        self._store: NounStore[CheckRecord] | None = None
        if out is not None:
            from lords_bench.timing.probe import probe_environment

            self._environment = probe_environment("cuda" if self._emulated is None else "cpu")
            path = out / "records" / check_folder(self._environment, self._emulated) / "checks.jsonl"
            self._store = NounStore(path, CheckRecord)

    def __enter__(self) -> Self:
        if self._store is not None:
            self._store.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._store is not None:
            self._store.close()

    def settled(self) -> set[tuple[str, str]]:
        """(kernel, case) that an earlier run has settled."""
        from lords_bench.records.check import check_key, checked

        if self._store is None:
            return set()
        done = checked(self._store.records, check_key(self._environment, self._emulated))
        return {(kernel, case) for tool, kernel, case in done if tool == "float64"}

    def add(
        self, tool: "CheckTool", kernel: str, case: str, status: Status, reason: str | None, worst: float | None
    ) -> None:
        """Write one record; called from several threads."""
        from lords_bench.records.check import CheckRecord
        from lords_bench.records.status import created_now

        if self._store is None:
            return
        known = worst if worst is not None and isfinite(worst) else None
        record = CheckRecord(
            tool=tool, kernel=kernel, case=case, status=status, reason=reason, worst=known,
            environment=self._environment, created_utc=created_now(),
            command=self._command, emulated=self._emulated, not_counted=self._not_counted,
            planned=self._planned,
        )  # fmt: skip
        with self._turn:
            self._store.append(record)


def check_rows(results: "tuple[CheckResult, ...]") -> tuple[tuple[str, ...], ...]:
    """A row per kernel, bits and dtype: how many checks were right, refused and wrong, and the largest error."""
    groups: dict[tuple[str, ...], list[CheckResult]] = {}
    for result in results:
        *_, bits, _rank, dtype = ["", "", *result.case.split("-")][-3:]
        groups.setdefault((result.kernel, bits, dtype), []).append(result)
    rows = []
    for names, found in groups.items():
        counts = Counter(result.status for result in found)
        worst = max((result.worst for result in found if result.worst is not None), default=None)
        fine = counts[Status.OK], counts[Status.UNSUPPORTED]
        rows.append((*names, *map(str, (*fine, counts.total() - sum(fine))), "" if worst is None else f"{worst:.3f}"))
    return tuple(rows)
