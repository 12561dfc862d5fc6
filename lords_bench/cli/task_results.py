"""What lm-eval said of each case: one JSON line per case beside the records, and a table at the end."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lords_bench.integrations.task_metric import TaskMetric
from lords_bench.records import BenchRecord, run_key
from lords_bench.records.lines import append_line, store_error
from lords_bench.runner import Run
from lords_bench.spec.case import Case, Suite

SCHEMA = "lords-bench/lm-eval/1.0"


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
        line = {"schema": SCHEMA, "run_key": key, "case_id": case.case_id, "metrics": [asdict(m) for m in metrics]}
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                append_line(file, f"{json.dumps(line)}\n".encode(), self._path)
            finally:
                os.close(file)
        except OSError as error:
            raise store_error("write", self._path, error) from error

    def print(self, records: Sequence[BenchRecord]) -> None:
        """The latest results of these cases as a table on standard output."""
        keys = {(record.run_key, record.case_id) for record in records}
        lines = self._path.read_text("utf-8").splitlines() if self._path.is_file() else []
        found = {}
        for entry in map(json.loads, lines):
            if (entry["run_key"], entry["case_id"]) in keys:
                found[entry["case_id"]] = tuple(TaskMetric(**metric) for metric in entry["metrics"])
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
