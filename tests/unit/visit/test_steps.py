"""A visit ends in time, keeps what was done, and runs the next step whatever became of the last one."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lords_bench.cli import main
from lords_bench.records.lines import folder_lock
from lords_bench.visit import steps
from lords_bench.visit.steps import LOG_NAME, Ending, Step, StepResult, read_log, visit
from process_tree import is_running, wait_until

# What a step does, by its first argument.
PROGRAM = """
import os, signal, subprocess, sys, time
what, folder = sys.argv[1], sys.argv[2]
if what == "write":
    open(os.path.join(folder, "written"), "a").write(" ".join(sys.argv[3:]) + chr(10))
elif what == "fail":
    print("first"), sys.exit("lords-bench: it did not work")
elif what == "fail-once":
    mark = os.path.join(folder, "failed")
    if not os.path.exists(mark):
        open(mark, "w").close()
        sys.exit("once")
elif what == "sleep":
    time.sleep(10**6)
elif what == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10**6)"])
    open(os.path.join(folder, "child.part"), "w").write(str(child.pid))
    os.rename(os.path.join(folder, "child.part"), os.path.join(folder, "child"))
    time.sleep(10**6)
"""


class Clock:
    """Stands still, so that a step has the time that it needs, until a test says what makes it go."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.tick = float

    def monotonic(self) -> float:
        self.now_s += self.tick()
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of all steps; it is looked at every few milliseconds."""
    made = Clock()
    monkeypatch.setattr(steps, "time", made)
    monkeypatch.setattr(steps, "MEANWHILE_SECONDS", 0.01)
    return made


def step(name: str, what: str, folder: Path, *arguments: str, **options: Any) -> Step:
    return Step(name=name, arguments=(what, str(folder), *arguments), nominal_s=1.0, **options)


def go(some: tuple[Step, ...], folder: Path, *, minutes: float = 600.0) -> list[StepResult]:
    script = folder / "program.py"
    script.write_text(PROGRAM)
    return list(visit(some, folder, minutes=minutes, say=lambda _line: None, program=(sys.executable, str(script))))


def endings(results: list[StepResult]) -> list[Ending]:
    return [result.ending for result in results]


def test_a_step_that_fails_is_reported_and_the_next_still_runs(tmp_path: Path) -> None:
    results = go((step("env", "fail", tmp_path), step("check", "write", tmp_path)), tmp_path)

    assert endings(results) == ["failed", "ok"]
    assert results[0].why == "lords-bench: it did not work"
    assert (tmp_path / "written").exists()


def test_a_step_that_can_go_on_is_started_again_after_a_failure(tmp_path: Path) -> None:
    results = go((step("latency", "fail-once", tmp_path, again=2), step("env", "fail", tmp_path, again=1)), tmp_path)

    assert endings(results) == ["ok", "failed"]


def test_a_step_beyond_its_time_is_stopped_and_the_next_still_runs(tmp_path: Path, clock: Clock) -> None:
    clock.tick = lambda: 0.0 if (tmp_path / "logs" / "check.log").exists() else 0.1

    results = go((step("env", "sleep", tmp_path, most_s=1.0), step("check", "write", tmp_path)), tmp_path)

    assert endings(results) == ["cut", "ok"]


def test_a_step_that_will_not_stop_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(steps, "KILL_SECONDS", 0.5)
    clock.tick = lambda: 1.0 if (tmp_path / "child").exists() else 0.0

    results = go((step("env", "stubborn", tmp_path, most_s=2.0),), tmp_path)

    child = int((tmp_path / "child").read_text())
    assert endings(results) == ["cut"]
    wait_until(lambda: not is_running(child))


@pytest.mark.usefixtures("clock")
def test_the_report_runs_even_when_no_time_is_left(tmp_path: Path) -> None:
    results = go(
        (step("latency", "write", tmp_path, "late"), step("report", "write", tmp_path, "page")), tmp_path, minutes=0.1
    )

    assert endings(results) == ["skipped", "ok"]
    assert results[0].why == "no time is left"
    assert (tmp_path / "written").read_text() == "page\n"


def test_a_step_is_told_a_budget_shorter_than_its_limit(tmp_path: Path) -> None:
    go((step("latency", "write", tmp_path, "{minutes}", "{seconds}", most_s=100.0),), tmp_path, minutes=10)

    minutes, seconds = map(float, (tmp_path / "written").read_text().split())
    assert seconds == 80
    assert minutes == pytest.approx(80 / 60, abs=0.001)


def test_what_ended_well_once_is_not_done_again_and_what_failed_is(tmp_path: Path) -> None:
    both = (step("check", "write", tmp_path, once=True), step("env", "fail", tmp_path, once=True))

    go(both, tmp_path)
    again = go(both, tmp_path)

    assert endings(again) == ["skipped", "failed"]
    assert (tmp_path / "written").read_text() == "\n"


def test_a_torn_line_of_the_log_counts_as_not_done(tmp_path: Path) -> None:
    one = (step("check", "write", tmp_path, once=True),)
    go(one, tmp_path)
    log = tmp_path / LOG_NAME
    log.write_text(log.read_text()[:-20] + "\n")

    assert read_log(log) == ()
    assert endings(go(one, tmp_path)) == ["ok"]


def test_what_a_kill_tore_costs_no_other_line_of_the_log(tmp_path: Path) -> None:
    go((step("check", "write", tmp_path, once=True),), tmp_path)
    log = tmp_path / LOG_NAME
    log.write_text(log.read_text()[:-20])

    go((step("env", "write", tmp_path),), tmp_path)

    assert [result.name for result in read_log(log)] == ["env"]
    assert log.with_name(f"{LOG_NAME}.rejected").exists()


def test_why_a_step_failed_is_the_end_of_what_it_printed_on_one_bounded_line(tmp_path: Path) -> None:
    log = tmp_path / "env.log"
    log.write_bytes(b"first\n" * 100_000 + b"\x1b[31m" + b"x" * 1000 + b"\n \n")

    assert steps.last_line(log) == "�[31m" + "x" * 294 + "…"


def test_what_is_found_is_kept_while_a_step_runs_and_after_it(tmp_path: Path, clock: Clock) -> None:
    clock.tick = lambda: 0.1
    kept: list[float] = []
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    visit(
        (step("cold", "sleep", tmp_path, most_s=1.0),), tmp_path, minutes=1.0, say=lambda _line: None,
        program=(sys.executable, str(script)), meanwhile=lambda: kept.append(clock.now_s),
    )  # fmt: skip

    assert len(kept) > 3


@pytest.mark.usefixtures("clock")
def test_what_is_left_of_a_visit_is_divided_by_what_its_steps_need(tmp_path: Path) -> None:
    some = (
        Step(name="a", arguments=("write", str(tmp_path), "{seconds}"), nominal_s=10),
        Step(name="b", arguments=("write", str(tmp_path), "{seconds}"), nominal_s=30),
        Step(name="report", arguments=("write", str(tmp_path), "{seconds}"), nominal_s=25),
    )

    go(some, tmp_path, minutes=10)

    first, second, _ = (float(line) for line in (tmp_path / "written").read_text().split())
    # 575 s beside the report's 25: a quarter of them, then all that is left, each less the grace of 20 s.
    assert first == pytest.approx(575 / 4 - 20, abs=0.5)
    assert second == pytest.approx(575 - 20, abs=0.5)


def test_a_visit_to_the_fake_device_runs_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["gpu", "--device", "fake", "--minutes", "3", "--steps", "cold,report", "--out", str(tmp_path)])

    out = capsys.readouterr().out
    assert code == 0
    assert [result.ending for result in read_log(tmp_path / LOG_NAME)] == ["ok", "ok"]
    assert f"Logs, records, tables and pages: {tmp_path}" in out
    assert (tmp_path / "reports" / "fake-gpu-made-up-numbers" / "latency.html").is_file()


def test_an_unknown_step_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["gpu", "--steps", "env,bench", "--out", str(tmp_path)]) == 2

    assert "unknown step 'bench'; known: env, check, sanitize, goals, ptq" in capsys.readouterr().err


def test_no_time_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["gpu", "--minutes", "0", "--device", "fake", "--out", str(tmp_path)])

    assert "argument --minutes: '0' is no number above 0" in capsys.readouterr().err


def test_a_second_visit_to_a_folder_is_refused_with_the_first_one_s_process_id(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with folder_lock(tmp_path):
        assert main(["gpu", "--device", "fake", "--steps", "env", "--out", str(tmp_path)]) == 2

    assert f"is being written by process {os.getpid()}; wait for that run" in capsys.readouterr().err
    assert not (tmp_path / LOG_NAME).exists()


def test_a_visit_without_a_gpu_says_how_to_try_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["gpu", "--out", str(tmp_path)]) == 2

    assert "--device fake" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
