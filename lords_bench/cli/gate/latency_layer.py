"""The latency layer's records: fresh pytest-benchmark processes of this tree and of the baseline, in turn.

The baseline is a commit, checked out into a git worktree and timed here and now, or a file of records that was pinned
on this very machine. Processes alternate (head, baseline, baseline, head, …), so that a machine that warms up does it
to both sides; what stays open is timed again on both sides, and nothing else is. A method whose code is proven to be
the same on both sides (`same_code`) is not judged by its time, and where that is every method, nothing is timed.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from lords_bench.cli.gate.same_code import same_methods
from lords_bench.cli.gate.settings import GateSettings
from lords_bench.cli.gate.worktree import checked_out
from lords_bench.cli.models import choose_device
from lords_bench.errors import RecordError, UsageError
from lords_bench.gate.benchmarks import LAYER, Key, gated_methods, not_timed
from lords_bench.gate.finding import LayerResult, rejected_findings
from lords_bench.gate.latency import LEAST_PROCESSES, compare_latency, open_cases
from lords_bench.isolate import run
from lords_bench.records.codec import decode_noun
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.lines import read_limited
from lords_bench.records.store import NounFile, NounStore, read_nouns
from lords_bench.strict_json import parse_json

DEFAULT_BASELINE = "main"
# A run of the whole suite has about 2 MB.
MOST_RUN_BYTES = 256 * 2**20

# Times the given cases (empty = all) once, in a fresh process of one side.
Collect = Callable[[Sequence[str]], tuple[LatencyRecord, ...]]


def result(settings: GateSettings) -> LayerResult:
    """Time both sides and compare them.

    Raises:
        UsageError: fewer than three processes, no such commit, or a process that failed.
    """
    if settings.processes < LEAST_PROCESSES:
        raise UsageError(f"--processes {settings.processes}: a process is one sample; give at least {LEAST_PROCESSES}")
    options = ["--latency-fake"] if settings.fake else []
    reference = settings.baseline or DEFAULT_BASELINE
    if Path(reference).is_file():
        file = read_nouns(Path(reference), LatencyRecord)
        head = side_of(Path(), options)
        return judged_sides(head, None, settings, cases=settings.cases, pinned=file)
    with checked_out(reference) as baseline:
        same = () if settings.measure_anyway else same_methods(Path(), baseline.tree)
        if set(same) == gated_methods():
            return not_timed(planned(settings.cases, fake=settings.fake), commit=baseline.commit)
        sides = side_of(Path(), options), of_commit(side_of(baseline.tree, options), baseline.commit)
        return judged_sides(*sides, settings, cases=settings.cases, same=same)


def planned(cases: Sequence[str], *, fake: bool) -> tuple[Key, ...]:
    """Every benchmark that a process of this tree would time, or those of the cases.

    Raises:
        UsageError: none of these cases exists.
    """
    from lords_bench.suites.latency.collector import LatencySession

    session = LatencySession(fake=fake, device=choose_device(None), folder=Path(), command="")
    found = session.benchmarks(tuple(cases))
    if not found:
        known = ", ".join(case.case_id for case in session.suite.cases)
        raise UsageError(f"no case {', '.join(cases)} in the latency suite; known: {known}")
    return tuple((case.case_id, regime, method) for case, regime, method in found)


def judged_sides(
    head: Collect,
    baseline: Collect | None,
    settings: GateSettings,
    *,
    cases: Sequence[str] = (),
    same: Sequence[str] = (),
    pinned: NounFile[LatencyRecord] | None = None,
) -> LayerResult:
    """Collect from both sides in turn, retry what is open, compare.

    Args:
        head: times this tree.
        baseline: times the baseline; None where its records are pinned.
        settings: `processes`, `retries`, `save` and `believe` of the command.
        cases: of the suite; empty = all.
        same: methods whose code is proven to be the same on both sides.
        pinned: the baseline's records.
    """
    ours: list[LatencyRecord] = []
    theirs = [r for r in pinned.records if not cases or r.case.case_id in cases] if pinned else []
    wanted: Sequence[str] = cases
    for attempt in range(1 + settings.retries):
        for turn in range(settings.processes):
            sides = [(head, ours), *([(baseline, theirs)] if baseline is not None else [])]
            for collect, records in sides if turn % 2 == 0 else sides[::-1]:
                records.extend(collect(wanted))
        # A pinned baseline has no more processes to give, and one side alone is never tried again.
        wanted = open_cases(theirs, ours, same=same) if baseline is not None and attempt < settings.retries else ()
        if not wanted:
            break
    if settings.save is not None:
        with NounStore(settings.save, LatencyRecord) as store:
            for record in ours:
                store.append(record)
    remedy = "restore the file, or pin this machine's records anew with --save"
    unusable = rejected_findings(LAYER, pinned, remedy) if pinned else ()
    return compare_latency(theirs, ours, unusable=unusable, same_code=same, believed=settings.believe)


def side_of(tree: Path, options: Sequence[str]) -> Collect:
    """A side that is timed by running pytest-benchmark in the tree."""

    def collect(cases: Sequence[str]) -> tuple[LatencyRecord, ...]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "latency.json"
            selection = ["--latency-cases", ",".join(cases)] if cases else []
            pytest = ["-m", "pytest", "suites", "--benchmark-only", f"--benchmark-json={out}", "-q"]
            command = [sys.executable, *pytest, "-p", "no:cacheprovider", *options, *selection]
            done = run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if not out.exists() or not out.stat().st_size:
                last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
                raise UsageError(f"timing {str(tree)!r} failed with exit code {done.returncode}: {' '.join(last)}")
            return read_benchmark_json(out)

    return collect


def of_commit(collect: Collect, commit: str) -> Collect:
    """The side, refusing what another commit's code gave: a process may import the project from elsewhere."""

    def checked(cases: Sequence[str]) -> tuple[LatencyRecord, ...]:
        records = collect(cases)
        for record in records:
            found = record.run.environment.git_commit
            if found != commit:
                raise UsageError(
                    f"timing {commit[:12]} ran the code of {(found or 'no commit')[:12]}; unset PYTHONSAFEPATH and "
                    "PYTHONPATH"
                )
        return records

    return checked


def read_benchmark_json(path: Path) -> tuple[LatencyRecord, ...]:
    """Records in a JSON document of pytest-benchmark that the suite's collector wrote.

    Raises:
        RecordError: another document, or a record that cannot be believed.
    """
    try:
        found = parse_json(read_limited(path, MOST_RUN_BYTES))
    except (OSError, ValueError):
        found = None
    lines = found.get("lords_bench") if isinstance(found, dict) else None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise RecordError(f"{str(path)!r} is no latency run; write one with 'pytest suites/ --benchmark-json'")
    return tuple(decode_noun(line, LatencyRecord) for line in lines)
