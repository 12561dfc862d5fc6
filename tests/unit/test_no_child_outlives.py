"""Whoever of the project starts a process: it is gone when its starter was killed, and a rerun meets no lock."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lords_bench.isolate import python_environment
from lords_bench.visit.steps import LOG_NAME, read_log
from process_tree import SIGNALS, STUBBORN, Started, descendants, is_running, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PREAMBLE = f"""
import os, sys
from argparse import Namespace
from pathlib import Path
STUBBORN = {STUBBORN!r}
PROGRAM = [sys.executable, "-c", STUBBORN]
folder = Path(os.environ["READY"]).parent
def in_place_of(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{{sys.executable}}\\n{{STUBBORN}}")
    path.chmod(0o755)
    return str(path)
def make():
    exec(STUBBORN)
if __name__ == "__main__":
"""
# Each starts `STUBBORN` where its real program would be.
STARTERS = {
    "check": (
        "from lords_bench.kernel_check.isolated import check_isolated",
        "check_isolated(('one', 'two'), cases=1, command=PROGRAM)",
    ),
    "sanitizer": (
        "from lords_bench import sanitizer",
        "sanitizer.watch_all(('scale_tile', 'blockwise'), program=in_place_of(folder / 'compute-sanitizer'))",
    ),
    "tuner": (
        "from lords_bench.tuning import process, fake",
        "from tuner_child import PROBLEM",
        "process._COMMAND = PROGRAM",
        "evaluation = process.EvaluationProcess('fake')",
        "evaluation.open(fake.CLEAN, PROBLEM)",
        "evaluation.attempt(fake.space().configs[0], stop_above_ns=None)",
    ),
    "compiler": (
        "from lords_bench.static import compile, request, target",
        "compile.sys.executable = in_place_of(folder / 'python')",
        "compile._Worker(10**6).ask({})",
    ),
    "step of a visit": (
        "from lords_bench.visit.steps import Step, visit",
        "step = Step(name='env', arguments=(), nominal_s=1.0)",
        "visit((step,), folder, minutes=10**6, say=print, program=(in_place_of(folder / 'program'),))",
    ),
    "accuracy gate": (
        "from lords_bench.cli.gate.accuracy_layer import measure",
        "in_place_of(folder / 'tree/lords_bench/__init__.py')",
        "measure(folder / 'tree', 'x', Namespace(methods=None, bits=None))",
    ),
    "latency gate": (
        "from lords_bench.cli.gate.latency_layer import side_of",
        "in_place_of(folder / 'tree/suites/test_stubborn.py')",
        "side_of(folder / 'tree', [])(())",
    ),
    "lifecycle": (
        "from lords_bench.suites.lifecycle.cases import QUICK",
        "from lords_bench.suites.lifecycle.run import run_plan",
        "list(run_plan(QUICK, make, done={}, processes=2))",
    ),
}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("lines", STARTERS.values(), ids=STARTERS)
def test_a_starter_that_is_killed_leaves_nothing_behind(
    lines: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    with Started(PREAMBLE + "".join(f"    {line}\n" for line in lines), tmp_path) as started:
        assert len(started.tree) > 2  # the guard, the program, its child

        started.end(number)

        wait_until(lambda: not started.left())


def test_a_visit_that_is_killed_leaves_no_step_and_its_rerun_meets_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lords_bench", "gpu", "--device", "fake", "--steps", "cold", "--minutes", "60"]
    command += ["--out", str(tmp_path)]

    for number in SIGNALS:
        with subprocess.Popen(command, env=python_environment(), stdout=subprocess.DEVNULL) as visit:
            wait_until(lambda: holders(tmp_path) & descendants(visit.pid))
            tree = descendants(visit.pid)
            visit.send_signal(number)
        wait_until(lambda: not any(is_running(pid) for pid in tree))  # noqa: B023  (called here)

    last = subprocess.run(command, env=python_environment(), capture_output=True, text=True, check=False)

    assert (last.returncode, last.stderr) == (0, "")
    assert [result.ending for result in read_log(tmp_path / LOG_NAME)] == ["ok"]
    assert "is being written" not in (tmp_path / "logs" / "cold.log").read_text()


def holders(out: Path) -> set[int]:
    """Processes that hold the lock of a folder of records, or did."""
    return {int(path.read_text() or 0) for path in out.glob("reports/records/*/.lords-bench.lock")}
