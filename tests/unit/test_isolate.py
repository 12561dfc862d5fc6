"""What is isolated costs its process and no other, and nothing that a process started outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from lords_bench.isolate import LostWorkerError, ProcessGroup, Worker, join_group, python_environment, run, side_by_side
from lords_bench.records.status import Status
from process_tree import PATIENCE_S, SIGNALS, STUBBORN, Started, descendants, is_running, marked, wait_until

ENDLESS = "import time; time.sleep(10**6)"

PREAMBLE = f"""
import multiprocessing, os, subprocess, sys, threading, time
from lords_bench.isolate import ProcessGroup, Worker, join_group, run, side_by_side
STUBBORN = {STUBBORN!r}
PROGRAM = [sys.executable, "-c", STUBBORN]
def forked():
    open(os.environ["READY"] + ".fork", "w").write(str(os.getpid()))
    while not os.path.exists(os.environ["READY"] + ".end"): time.sleep(0.01)
def joins(number, starter):
    join_group(number, starter)
    exec(STUBBORN)
if __name__ == "__main__":
"""
PARENTS = {
    "group": "    with ProcessGroup() as group: group.start(PROGRAM).wait()",
    "group that nobody closes": "    group = ProcessGroup(); group.start(PROGRAM); time.sleep(10**6)",
    "run": "    run(PROGRAM)",
    "run with captured output": "    run(PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE)",
    "worker": "    Worker(PROGRAM).receive(10**6)",
    "threads": "    list(side_by_side(run, [PROGRAM], threads=1))",
    # Linux' parent-death signal would come when this thread ends, and leave the rest alone.
    "thread that has ended": (
        "    group = ProcessGroup(); thread = threading.Thread(target=group.start, args=(PROGRAM,)); thread.start()\n"
        "    thread.join(); time.sleep(10**6)"
    ),
    "isolated in turn": f"    run([sys.executable, '-c', {PREAMBLE + '    run(PROGRAM)'!r}])",
    # It inherits every descriptor of its parent, and would keep the guard's pipe open.
    "multiprocessing": (
        "    with ProcessGroup() as group:\n"
        "        context = multiprocessing.get_context('spawn')\n"
        "        child = context.Process(target=joins, args=(group.number, os.getpid()), daemon=True)\n"
        "        child.start(); child.join()"
    ),
}


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("body", PARENTS.values(), ids=PARENTS)
def test_nothing_that_was_isolated_outlives_a_parent_that_is_killed(
    body: str, number: signal.Signals, tmp_path: Path
) -> None:
    with Started(PREAMBLE + body, tmp_path) as started:
        assert len(started.tree) > 2  # the guard, the program, its child

        started.end(number)

        wait_until(lambda: not started.left())


def test_a_fork_of_the_parent_keeps_no_group_alive(tmp_path: Path) -> None:
    """It inherits every descriptor of its parent, and would keep the guard's pipe open."""
    source = (
        "    group = ProcessGroup(); multiprocessing.get_context('fork').Process(target=forked).start()\n"
        "    while not os.path.exists(os.environ['READY'] + '.fork'): time.sleep(0.01)\n"
        "    group.start(PROGRAM).wait()"
    )
    with Started(PREAMBLE + source, tmp_path) as started:
        fork = {int((tmp_path / "ready.fork").read_text())}

        started.end(signal.SIGKILL)

        wait_until(lambda: started.left() == fork)
        (tmp_path / "ready.end").touch()
        wait_until(lambda: not started.left())


def test_a_process_that_joins_after_its_starter_is_gone_ends() -> None:
    """The number is still there: a killed guard that nobody has waited for keeps it."""
    with ProcessGroup() as group:
        number = group.number
        group.signal(signal.SIGKILL)
        child = os.fork()
        if child == 0:
            join_group(number, os.getpid())  # not its parent, as if that were gone
            os._exit(0)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_fork_that_ends_leaves_the_group_alone() -> None:
    with ProcessGroup() as group:
        program = group.start([sys.executable, "-c", ENDLESS])
        child = os.fork()
        if child == 0:
            group.close()
            os._exit(0)
        os.waitpid(child, 0)

        assert program.poll() is None


def test_a_program_that_ends_takes_what_it_started_with_it(tmp_path: Path) -> None:
    program = f"import os, subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {ENDLESS!r}]).pid)"

    with (tmp_path / "out").open("wb") as out:
        ended = run([sys.executable, "-c", program], stdout=out)

    assert ended.returncode == 0
    wait_until(lambda: not is_running(int((tmp_path / "out").read_text())))


def test_a_program_that_runs_into_its_limit_is_killed_with_its_children(tmp_path: Path) -> None:
    environment = {**os.environ, "READY": str(tmp_path / "ready"), "MARK": str(tmp_path)}

    with pytest.raises(subprocess.TimeoutExpired):
        run([sys.executable, "-c", STUBBORN], seconds=2, env=environment)

    wait_until(lambda: not marked(f"MARK={tmp_path}"))


def test_a_signal_reaches_the_program_and_not_its_guard() -> None:
    with ProcessGroup() as group:
        first = group.start([sys.executable, "-c", ENDLESS])
        group.signal(signal.SIGINT)
        first.wait(timeout=PATIENCE_S)

        second = group.start([sys.executable, "-c", ENDLESS])

        assert second.poll() is None
        assert os.getpgid(second.pid) == group.number


def test_a_program_that_is_not_there_is_told_and_leaves_no_guard() -> None:
    before = descendants(os.getpid())

    with pytest.raises(FileNotFoundError):
        run(["/nowhere/program"])

    assert descendants(os.getpid()) <= before


def test_a_closed_group_starts_nothing() -> None:
    group = ProcessGroup()
    group.close()
    group.close()

    with pytest.raises(ProcessLookupError):
        group.start([sys.executable, "-c", ENDLESS])


def test_when_memory_runs_out_what_is_isolated_goes_first() -> None:
    ended = run(["cat", "/proc/self/oom_score_adj"], stdout=subprocess.PIPE)
    with ProcessGroup() as group:
        program = group.start([sys.executable, "-c", ENDLESS])

        assert int(Path(f"/proc/{program.pid}/oom_score_adj").read_text()) == 800
    assert ended.returncode == 0


def python_worker(code: str) -> Worker:
    return Worker([sys.executable, "-u", "-c", code])


def test_a_worker_answers_line_by_line_however_its_output_is_cut() -> None:
    code = (
        "import sys\nfor line in sys.stdin: sys.stdout.write(line); sys.stdout.write(line * 2 + 'x' * 200000 + chr(10))"
    )

    with python_worker(code) as worker:
        worker.send("één")
        worker.send("two")
        lines = [worker.receive(PATIENCE_S) for _ in range(8)]

    assert lines == ["één", "één", "één", "x" * 200000, "two", "two", "two", "x" * 200000]


@pytest.mark.parametrize(
    ("code", "status", "how", "words"),
    [
        ("import os; os.abort()", Status.CRASH, "signal SIGABRT", ""),
        ("import sys; sys.exit('no such thing')", Status.CRASH, "exit code 1", "no such thing"),
        ("pass", Status.CRASH, "exit code 0", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Status.CRASH, "signal SIGKILL", ""),
        ("print('half', end='', flush=True)", Status.CRASH, "exit code 0", ""),
        (
            "import sys; sys.stderr.write('w' * 10**6 + '\\nlast\\n\\n'); sys.exit(3)",
            Status.CRASH,
            "exit code 3",
            "last",
        ),
    ],
)
def test_how_a_worker_ended_is_told(code: str, status: Status, how: str, words: str) -> None:
    with python_worker(code) as worker, pytest.raises(LostWorkerError) as lost:
        worker.receive(PATIENCE_S)

    assert (lost.value.status, lost.value.how, lost.value.words) == (status, how, words)


def test_a_worker_that_hangs_is_a_timeout_and_is_gone() -> None:
    with python_worker(ENDLESS) as worker:
        with pytest.raises(LostWorkerError) as lost:
            worker.receive(0.1)
        assert not is_running(worker.pid)

    assert lost.value.status is Status.TIMEOUT


def test_a_worker_is_asked_and_answers_in_json_whatever_else_its_program_prints() -> None:
    code = "from lords_bench.isolate import answer_all; answer_all(lambda asked: print('loud') or [asked, len(asked)])"
    with Worker([sys.executable, "-c", code], environment=python_environment()) as worker:
        assert worker.ask({"a": None}, 60.0) == [{"a": None}, 1]
        assert worker.ask("bc", 60.0) == ["bc", 2]


def test_a_line_for_a_worker_that_is_gone_is_told_when_it_is_asked() -> None:
    with python_worker("pass") as worker:
        wait_until(lambda: not is_running(worker.pid))
        worker.send("hello")

        with pytest.raises(LostWorkerError, match="exit code 0"):
            worker.receive(PATIENCE_S)


def test_side_by_side_gives_results_in_the_order_of_the_items() -> None:
    assert list(side_by_side(lambda item: -item, range(5), threads=2)) == [0, -1, -2, -3, -4]


def test_an_error_in_one_thread_ends_what_the_others_started_and_begins_nothing_more() -> None:
    started, outcomes, all_there = [], [], threading.Barrier(2)

    def work(item: int) -> None:
        started.append(item)
        all_there.wait(PATIENCE_S)
        if item == 0:
            raise KeyboardInterrupt
        # As one that tries again after every failure would.
        while True:
            with python_worker(ENDLESS) as worker:
                outcomes.append(outcome(lambda: worker.receive(PATIENCE_S)))

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(work, range(50), threads=2))

    assert sorted(started) == [0, 1]
    assert outcomes == []


def test_a_program_that_was_killed_because_nobody_waits_for_it_is_no_outcome() -> None:
    caught: list[BaseException] = []
    runs = threading.Event()

    def work(item: int) -> None:
        if item == 0:
            runs.wait(PATIENCE_S)
            raise ValueError("the other one ends")
        with ProcessGroup() as group:
            program = group.start([sys.executable, "-c", ENDLESS])
            runs.set()
            program.wait(timeout=PATIENCE_S)
            try:
                group.require_wanted()
            except CancelledError as error:
                caught.append(error)

    with pytest.raises(ValueError, match="the other one ends"):
        list(side_by_side(work, range(2), threads=2))

    assert len(caught) == 1


def outcome(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except LostWorkerError as lost:
        return str(lost)
