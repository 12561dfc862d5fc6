"""The accuracy layer's records: this tree's, measured in a fresh process, and the baseline's.

The baseline is the committed records, or, with `--baseline`, a commit that is checked out and measured here by the same
interpreter: what a fit ends in depends on the processor, so a committed record serves one model of processor. Records
wait in `.lords-bench/`, one folder for the head and one for each baseline commit: an interrupted gate goes on where it
stopped, and a commit is measured once. Where both sides have the same code, model and settings, nothing is measured.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lords_bench.cli.gate.same_code import same_accuracy
from lords_bench.cli.gate.settings import GateSettings
from lords_bench.cli.gate.worktree import Checkout, checked_out
from lords_bench.errors import RecordError, UsageError
from lords_bench.gate.accuracy import BENCH_COMMAND, LAYER, compare_accuracy, last_run, not_measured
from lords_bench.gate.finding import LayerResult, Located, located, rejected_findings
from lords_bench.isolate import run
from lords_bench.records.bench import BenchRecord
from lords_bench.records.store import NounFile, read_nouns
from lords_bench.source import package_sha256
from lords_bench.suites.accuracy.cases import ACCURACY_QUICK, select

RECORD_FILE = "accuracy.jsonl"
# Git ignores the folder.
OWN_FOLDER = Path(".lords-bench")
HEAD_NAME = "gate-head"


def result(settings: GateSettings) -> LayerResult:
    """Measure what is not measured yet, or read `--head`, and compare.

    Raises:
        UsageError: measuring failed, or no such baseline commit.
        RecordError: no file `--head`.
    """
    reference, cases = settings.baseline, selection(settings)
    if reference is None or Path(reference).is_file():
        path = Path(reference or settings.out / "records" / settings.device_name / RECORD_FILE)
        base = read_nouns(path, BenchRecord) if path.exists() else NounFile(path=path, records=(), rejected=())
        remedy = f"restore the file from git, or measure again with '{BENCH_COMMAND}'"
        return compare_accuracy(
            _chosen(last_run(located(base)), settings),
            head_records(settings),
            unusable=rejected_findings(LAYER, base, remedy),
            selection=cases,
            believed=settings.believe,
        )
    with checked_out(reference) as baseline:
        if not (settings.measure_anyway or settings.head) and same_accuracy(Path(), baseline.tree):
            return not_measured(cases or tuple(case.case_id for case in ACCURACY_QUICK.cases), commit=baseline.commit)
        head = head_records(settings)
        theirs = _chosen(last_run(baseline_records(baseline, settings)), settings)
        return compare_accuracy(theirs, head, selection=cases, measured_here=True, believed=settings.believe)


def head_records(settings: GateSettings) -> tuple[BenchRecord, ...]:
    """This tree's records: those of `--head`, or of the tree as its source stands now.

    Raises:
        UsageError: measuring failed.
        RecordError: no file `--head`, or a line that cannot be believed.
    """
    if settings.head is not None:
        items = last_run(located(_believed(settings.head)))
    else:
        items = located(_believed(measure(Path(), HEAD_NAME, settings)))
        # The last lines may be of another state of the tree: what was measured before is not measured again.
        now = package_sha256()
        items = last_run([item for item in items if item.record.environment.source_sha256 == now])
    return tuple(item.record for item in _chosen(items, settings))


def baseline_records(baseline: Checkout, settings: GateSettings) -> tuple[Located[BenchRecord], ...]:
    """The baseline commit's records, measured on this machine now or before.

    Raises:
        UsageError: measuring failed, or another commit's code was measured.
        RecordError: a line that cannot be believed.
    """
    file = _believed(measure(baseline.tree, f"gate-{baseline.commit[:12]}", settings))
    records = [record for record in file.records if record.environment.git_commit == baseline.commit]
    if not records:
        raise UsageError(f"measuring {baseline.commit[:12]} gave no record of it; unset PYTHONSAFEPATH and PYTHONPATH")
    return tuple(Located(record=record, place=None) for record in records)


def measure(tree: Path, name: str, settings: GateSettings) -> Path:
    """Run the quick suite of a tree on the CPU in a process of its own; the file of its records.

    Cases that the file holds, of the same source, versions and processor, are not measured again.

    Raises:
        UsageError: the run was refused or failed.
    """
    out = OWN_FOLDER.absolute()
    options = ["--methods", ",".join(settings.methods)] if settings.methods else []
    options += ["--bits", ",".join(map(str, settings.bits))] if settings.bits else []
    command = ["bench", "accuracy", "--device", "cpu", "--out", str(out), "--name", name, *options]
    done = run([sys.executable, "-m", "lords_bench", *command], cwd=tree, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise UsageError(
            f"'lords-bench {' '.join(command)}' ended with exit code {done.returncode}; see its message above"
        )
    return out / "records" / name / RECORD_FILE


def selection(settings: GateSettings) -> tuple[str, ...] | None:
    """Cases of this tree that `--methods` and `--bits` select; None where neither is given.

    Raises:
        UsageError: an unknown method or number of bits.
    """
    methods, bits = settings.methods or None, settings.bits
    if methods is None and bits is None:
        return None
    return tuple(case.case_id for case in select(ACCURACY_QUICK, methods=methods, bits=bits).cases)


def _chosen(items: Sequence[Located[BenchRecord]], settings: GateSettings) -> tuple[Located[BenchRecord], ...]:
    """The records of `--methods` and `--bits`, by the rule of `suites.accuracy.select`."""
    methods, bits = settings.methods or None, settings.bits

    def is_chosen(record: BenchRecord) -> bool:
        specs = [spec for _, spec in record.mixed or ()] + ([record.spec] if record.spec else [])
        return not specs or (
            (methods is None or all(spec.method in methods for spec in specs)) and (bits is None or record.bits in bits)
        )

    return tuple(item for item in items if is_chosen(item.record))


def _believed(path: Path) -> NounFile[BenchRecord]:
    """A file of records that were measured for this gate.

    Raises:
        RecordError: a line that cannot be believed.
    """
    file = read_nouns(path, BenchRecord)
    for line in file.rejected:
        raise RecordError(f"{path}, line {line.line} is not believed: {line.reason}; delete the file and measure again")
    return file
