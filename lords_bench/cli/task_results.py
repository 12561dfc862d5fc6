"""What lm-eval said of each case: one JSON line per case beside the records, and a table at the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from lords_bench.integrations.task_metric import TaskMetric
from lords_bench.records import BenchRecord, run_key
from lords_bench.records.codec import from_plain
from lords_bench.records.lines import add_line, lines_of
from lords_bench.strict_json import parse_json
from lords_bench.suites.accuracy.cases import Case, Suite
from lords_bench.suites.accuracy.run import Run
from lords_bench.terminal import Console

SCHEMA = "lords-bench/lm-eval/1.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskLine:
    schema: str
    run_key: str
    case_id: str
    metrics: tuple[TaskMetric, ...]


class TaskResults:
    """The file of a device's lm-eval results; the folder's record store must be open for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, run: Run, suite: Suite, case: Case, metrics: Sequence[TaskMetric]) -> None:
        """Writes one case's results, forced to disk.

        Raises:
            StoreError: the disk refuses.
        """
        key = run_key(suite=suite.name, inputs=run.inputs, seed=run.seed, environment=run.environment)
        line = asdict(TaskLine(schema=SCHEMA, run_key=key, case_id=case.case_id, metrics=tuple(metrics)))
        add_line(self._path, f"{json.dumps(line)}\n".encode())

    def print(self, records: Sequence[BenchRecord]) -> None:
        """The latest results of these cases as a table on standard output."""
        keys = {(record.run_key, record.case_id) for record in records}
        found = {}
        for line in lines_of(self._path) if self._path.is_file() else ():
            try:
                entry: TaskLine = from_plain(TaskLine, parse_json(line.content or b""), path="line")
            # A line that a kill tore or that was edited; its case has no results.
            except ValueError:
                continue
            if (entry.run_key, entry.case_id) in keys:
                found[entry.case_id] = entry.metrics
        print_metrics({record.case_id: found.get(record.case_id, ()) for record in records})


def print_metrics(metrics: Mapping[str, Sequence[TaskMetric]]) -> None:
    """A table on standard output: one row per case, one column per task and metric."""
    columns = list(dict.fromkeys((m.task, m.metric) for found in metrics.values() for m in found))
    table = Table("", *(f"{task}\n{metric}" for task, metric in columns), title="lm-eval, ± standard error")
    for name, found in metrics.items():
        cells = {(m.task, m.metric): _shown(m) for m in found}
        table.add_row(name, *(cells.get(column, "–") for column in columns))
    Console().print(table)


def _shown(metric: TaskMetric) -> str:
    error = "" if metric.standard_error is None else f" ± {metric.standard_error:.4f}"
    return f"{metric.value:.4f}{error}"
