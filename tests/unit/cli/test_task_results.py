"""What lm-eval said of each case is kept line by line, and a torn line costs no other."""

import json
from pathlib import Path

import pytest

from lords_bench.cli.task_results import TaskResults
from lords_bench.integrations.task_metric import TaskMetric
from lords_bench.suites.accuracy.cases import ACCURACY_QUICK, Suite
from lords_bench.suites.accuracy.run import Run
from record_builders import make_environment, make_inputs, make_record

RUN = Run(run_id="a", inputs=make_inputs(), environment=make_environment(), command="lords-bench bench", seed=0)
METRIC = TaskMetric(task="t", metric="acc", value=0.5, standard_error=None)
SUITE: Suite = ACCURACY_QUICK


def test_what_a_kill_tore_is_set_aside_and_the_next_case_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "lm-eval.jsonl"
    results, (first, second) = TaskResults(path), SUITE.cases[:2]
    results.append(RUN, SUITE, first, [METRIC])
    path.write_bytes(path.read_bytes()[:-20])

    results.append(RUN, SUITE, second, [METRIC])

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["case_id"] for line in lines] == [second.case_id]
    assert path.with_name("lm-eval.jsonl.rejected").exists()


def test_a_line_that_is_no_result_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lm-eval.jsonl"
    path.write_bytes(b'[]\n{"schema": 5}\n\xff\n' + b"[" * 100_000 + b"\n")

    TaskResults(path).print([make_record("a")])

    assert "a" in capsys.readouterr().out
