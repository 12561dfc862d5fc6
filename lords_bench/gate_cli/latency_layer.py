"""The latency layer's records: fresh pytest-benchmark processes of this tree and of the baseline, in turn.

The baseline is a commit, checked out into a git worktree and timed here and now, or a file of records that was pinned
on this very machine. Processes alternate (head, baseline, baseline, head, …), so that a machine that warms up does it
to both sides; what stays open is timed again on both sides, and nothing else is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lords_bench.errors import RecordError, UsageError
from lords_bench.gate.finding import LayerResult, rejected_findings
from lords_bench.gate.latency import LAYER, LEAST_PROCESSES, compare_latency, open_cases
from lords_bench.records.codec import decode_noun
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import NounFile, NounStore, read_nouns

# Times the given cases (empty = all) once, in a fresh process of one side.
Collect = Callable[[Sequence[str]], tuple[LatencyRecord, ...]]


def result(arguments: argparse.Namespace) -> LayerResult:
    """Time both sides and compare them.

    Raises:
        UsageError: fewer than three processes, no such commit, or a process that failed.
    """
    if arguments.processes < LEAST_PROCESSES:
        raise UsageError(f"--processes {arguments.processes}: a process is one sample; give at least {LEAST_PROCESSES}")
    options = ["--latency-fake"] if arguments.fake else []
    cases = tuple(name for name in arguments.cases.split(",") if name)
    pinned = Path(arguments.baseline)
    if pinned.is_file():
        file = read_nouns(pinned, LatencyRecord)
        head = side_of(Path(), options)
        return judged_sides(head, None, arguments, cases=cases, pinned=file)
    with worktree(arguments.baseline) as tree:
        return judged_sides(side_of(Path(), options), side_of(tree, options), arguments, cases=cases)


def judged_sides(
    head: Collect,
    baseline: Collect | None,
    arguments: argparse.Namespace,
    *,
    cases: Sequence[str] = (),
    pinned: NounFile[LatencyRecord] | None = None,
) -> LayerResult:
    """Collect from both sides in turn, retry what is open, compare.

    Args:
        head: times this tree.
        baseline: times the baseline; None where its records are pinned.
        arguments: `processes`, `retries` and `save` of the command.
        cases: of the suite; empty = all.
        pinned: the baseline's records.
    """
    ours: list[LatencyRecord] = []
    theirs = [r for r in pinned.records if not cases or r.case.case_id in cases] if pinned else []
    wanted: Sequence[str] = cases
    for attempt in range(1 + arguments.retries):
        for turn in range(arguments.processes):
            sides = [(head, ours), *([(baseline, theirs)] if baseline is not None else [])]
            for collect, records in sides if turn % 2 == 0 else sides[::-1]:
                records.extend(collect(wanted))
        # A pinned baseline has no more processes to give, and one side alone is never tried again.
        wanted = open_cases(theirs, ours) if baseline is not None and attempt < arguments.retries else ()
        if not wanted:
            break
    if arguments.save is not None:
        with NounStore(arguments.save, LatencyRecord) as store:
            for record in ours:
                store.append(record)
    remedy = "restore the file, or pin this machine's records anew with --save"
    unusable = rejected_findings(LAYER, pinned, remedy) if pinned else ()
    return compare_latency(theirs, ours, unusable=unusable)


def side_of(tree: Path, options: Sequence[str]) -> Collect:
    """A side that is timed by running pytest-benchmark in the tree."""

    def collect(cases: Sequence[str]) -> tuple[LatencyRecord, ...]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "latency.json"
            selection = ["--latency-cases", ",".join(cases)] if cases else []
            pytest = ["-m", "pytest", "suites", "--benchmark-only", f"--benchmark-json={out}", "-q"]
            command = [sys.executable, *pytest, "-p", "no:cacheprovider", *options, *selection]
            done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
            if not out.exists() or not out.stat().st_size:
                last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
                raise UsageError(f"timing {str(tree)!r} failed with exit code {done.returncode}: {' '.join(last)}")
            return read_benchmark_json(out)

    return collect


def read_benchmark_json(path: Path) -> tuple[LatencyRecord, ...]:
    """Records in a JSON document of pytest-benchmark that the suite's collector wrote.

    Raises:
        RecordError: another document, or a record that cannot be believed.
    """
    try:
        lines = json.loads(path.read_text("utf-8"))["lords_bench"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RecordError(
            f"{str(path)!r} is no latency run; write one with 'pytest suites/ --benchmark-json'"
        ) from None
    return tuple(decode_noun(line, LatencyRecord) for line in lines)


@contextmanager
def worktree(reference: str) -> Iterator[Path]:
    """The commit checked out beside the repository, for as long as the context lasts.

    Raises:
        UsageError: no such commit, or this is no git checkout.
    """
    with tempfile.TemporaryDirectory(prefix="lords-bench-baseline-") as folder:
        tree = Path(folder) / "tree"
        made = subprocess.run(
            ["git", "worktree", "add", "--detach", "--quiet", str(tree), reference],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise UsageError(
                f"no baseline {reference!r}: {made.stderr.strip().splitlines()[-1]}; give a commit or a record file"
            )
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)
