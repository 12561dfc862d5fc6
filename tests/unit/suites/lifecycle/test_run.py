import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lifecycle_measurements import UNTRAINED, Made, die, made, refuse
from lords_bench.errors import ModelError, StoreError
from lords_bench.records import LifecycleSamples, Status
from lords_bench.suites.lifecycle.cases import QUICK, REFERENCE_ID, Budget, Group, Plan
from lords_bench.suites.lifecycle.run import CaseResult, run_group, run_plan
from process_tree import is_running, wait_until

PLAN = Plan(
    groups=QUICK.groups[:2],
    qat=Budget(steps=2, batch_windows=1, learning_rates=(1e-4, 1e-3, 1e-2), seeds=(0, 1, 2)),
    peft=Budget(steps=2, batch_windows=1, learning_rates=(1e-3,), seeds=(0,)),
    text=QUICK.text,
)
GROUP = PLAN.groups[0]


def run(measurement: Made, done: dict[str, LifecycleSamples] | None = None) -> list[CaseResult]:
    return list(run_group(measurement, PLAN, GROUP, done or {}))


def test_other_seeds_repeat_the_rate_with_the_lowest_validation_loss() -> None:
    measurement = Made({1e-4: 120.0, 1e-3: 100.0, 1e-2: 110.0})

    results = run(measurement)

    assert [result.case_id for result in results] == list(PLAN.case_ids_of(GROUP))
    assert measurement.trained == [(1e-4, 0), (1e-3, 0), (1e-2, 0), (1e-3, 1), (1e-3, 2)]


def test_a_rate_that_diverges_is_a_record_and_not_chosen() -> None:
    results = run(Made({1e-4: 120.0, 1e-3: None, 1e-2: 110.0}))

    failed = next(result for result in results if result.learning_rate == 1e-3)
    assert (failed.status, failed.reason) == (Status.INCORRECT, "step 2: loss nan and more")
    assert [result.learning_rate for result in results if result.seed] == [1e-2, 1e-2]


def test_where_every_rate_diverges_the_other_seeds_say_so() -> None:
    results = run(Made({1e-4: None, 1e-3: None, 1e-2: None}))

    assert {result.reason for result in results if result.seed} == {"no learning rate of the grid gave a finite result"}


def test_a_resumed_group_chooses_as_the_whole_one_did() -> None:
    measurement = Made({1e-4: 120.0, 1e-3: 100.0, 1e-2: 110.0})
    whole = run(measurement)
    done = {r.case_id: r.samples for r in whole[:4] if r.samples is not None}
    measurement.trained.clear()

    rest = run(measurement, done)

    assert [result.case_id for result in rest] == [result.case_id for result in whole[4:]]
    assert measurement.trained == [(1e-3, 1), (1e-3, 2)]


def test_an_error_that_is_not_about_the_case_ends_the_run() -> None:
    class Broken(Made):
        def start(self, group: Group) -> LifecycleSamples:
            raise StoreError(f"disk full at {group.group_id}")

    with pytest.raises(StoreError, match="disk full"):
        run(Broken({}))


def everything(make: Callable[[], Made], processes: int) -> set[str]:
    return {result.case_id for result in run_plan(PLAN, make, done={REFERENCE_ID: UNTRAINED}, processes=processes)}


@pytest.mark.parametrize("processes", [1, 2])
def test_every_case_that_is_not_done_is_run_once(processes: int) -> None:
    assert everything(made, processes) == set(PLAN.case_ids) - {REFERENCE_ID}


def test_a_process_that_dies_ends_the_run_with_a_reason() -> None:
    with pytest.raises(ModelError, match="ended with code 7"):
        everything(die, 2)


def test_an_error_in_a_process_is_raised_here() -> None:
    with pytest.raises(ModelError, match="no such model"):
        list(run_plan(PLAN, partial(refuse, "no such model"), done={}, processes=2))


def test_nothing_is_loaded_where_everything_is_done() -> None:
    done = {case_id: replace(UNTRAINED) for case_id in PLAN.case_ids}

    assert list(run_plan(PLAN, die, done=done, processes=1)) == []


PARENT = """
import os
import sys
import time

from lords_bench.suites.lifecycle.cases import QUICK
from lords_bench.suites.lifecycle.run import run_plan


def make():
    os.write(1, f"{os.getpid()} ".encode())
    time.sleep(120)


if __name__ == "__main__":
    list(run_plan(QUICK, make, done={}, processes=2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_when_the_run_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        printed = b""
        while printed.count(b" ") < 2:
            one = parent.stdout.read(1)
            assert one, "the run ended before it was killed"
            printed += one
        children = [int(pid) for pid in printed.split()]

        parent.kill()

        wait_until(lambda: not any(map(is_running, children)))
