"""The accuracy layer's records: the committed ones, and those of this tree, measured in a fresh process."""

import argparse
import subprocess
import sys
from pathlib import Path

from lords_bench.errors import UsageError
from lords_bench.gate.accuracy import BENCH_COMMAND, LAYER, compare_accuracy, last_run
from lords_bench.gate.finding import LayerResult, located, rejected_findings
from lords_bench.records.bench import BenchRecord
from lords_bench.records.store import NounFile, read_nouns

RECORD_FILE = "accuracy.jsonl"
# Where a head's records wait, so that an interrupted gate goes on where it stopped; git ignores the folder.
HEAD_FOLDER = Path(".lords-bench")
HEAD_NAME = "gate-head"


def result(arguments: argparse.Namespace) -> LayerResult:
    """Measure the quick suite, or read `--head`, and compare it with the committed records.

    Raises:
        UsageError: measuring failed.
        RecordError: no file `--head`.
    """
    path = arguments.out / "records" / arguments.device_name / RECORD_FILE
    remedy = f"restore the file from git, or measure again with '{BENCH_COMMAND}'"
    empty: NounFile[BenchRecord] = NounFile(path=path, records=(), rejected=())
    base = read_nouns(path, BenchRecord) if path.exists() else empty
    head = read_nouns(arguments.head or measure(), BenchRecord)
    return compare_accuracy(
        last_run(located(base)),
        [item.record for item in last_run(located(head))],
        unusable=(*rejected_findings(LAYER, base, remedy), *rejected_findings(LAYER, head, "measure again")),
    )


def measure() -> Path:
    """Run the quick suite on the CPU in a process of its own; the file of its records.

    Raises:
        UsageError: the run was refused or failed.
    """
    command = ["bench", "accuracy", "--device", "cpu", "--out", str(HEAD_FOLDER), "--name", HEAD_NAME]
    done = subprocess.run([sys.executable, "-m", "lords_bench", *command], check=False, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise UsageError(
            f"'lords-bench {' '.join(command)}' ended with exit code {done.returncode}; see its message above"
        )
    return HEAD_FOLDER / "records" / HEAD_NAME / RECORD_FILE
