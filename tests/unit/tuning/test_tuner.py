"""The whole tuner on a fake device with real processes: failures, resuming, budgets, damaged rows, a full disk."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import tuner_child
from lords_bench.cli import main
from lords_bench.errors import StoreError
from lords_bench.records.journal import read_journal
from lords_bench.records.status import Status
from lords_bench.records.trial import Settings, Trial
from lords_bench.tuning import fake
from lords_bench.tuning.plan import FAKE_MACHINE, make_task
from lords_bench.tuning.rows import Rows, device_lock
from lords_bench.tuning.tasks import Finished, Inspected, Options
from lords_bench.tuning.tuner import tune
from tuner_child import PROBLEM, Patient, Silent, run_tune

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
TASK = make_task(fake.CLEAN, PROBLEM, FAKE_MACHINE, "fake")


def truth_of(config: Settings) -> float:
    return fake.truth_ns(config, PROBLEM)


def test_an_exhaustive_tune_finds_the_fastest_configuration(tmp_path: Path) -> None:
    finished, tried, _ = run_tune(tmp_path, TASK)

    assert finished.winner is not None
    assert len(tried) == len(fake.space())
    assert truth_of(finished.winner.config) == min(map(truth_of, fake.space().configs))
    assert finished.winner.confirmed


def test_every_kind_of_failure_is_recorded_and_the_tune_ends_well(tmp_path: Path) -> None:
    task = make_task(fake.FAULTY, PROBLEM, FAKE_MACHINE, "fake")

    finished, tried, _ = run_tune(tmp_path, task)

    assert Counter(trial.status for trial in tried if trial.status is not Status.OK) == {
        Status.TIMEOUT: 1, Status.CRASH: 2, Status.OUT_OF_MEMORY: 1, Status.INCORRECT: 1, Status.LAUNCH_ERROR: 1,
    }  # fmt: skip
    assert all(trial.reason for trial in tried if trial.status is not Status.OK)
    assert finished.winner is not None
    assert fake.fault_of(finished.winner.config) is None


def test_a_second_run_tries_nothing_again_and_says_the_same(tmp_path: Path) -> None:
    first, _, _ = run_tune(tmp_path, TASK)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    second, tried, _ = run_tune(tmp_path, TASK)

    assert tried == []
    assert second.winner == first.winner
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_wider_search_goes_on_from_a_narrower_one(tmp_path: Path) -> None:
    _, first, _ = run_tune(tmp_path, TASK, strategy="random")

    _, second, _ = run_tune(tmp_path, TASK)

    assert len(first) == 8
    assert len(second) == len(fake.space()) - 8
    assert not {trial.config for trial in first} & {trial.config for trial in second}


def test_failures_are_tried_again_only_when_asked_for(tmp_path: Path) -> None:
    task = make_task(fake.FAULTY, PROBLEM, FAKE_MACHINE, "fake")
    run_tune(tmp_path, task)

    _, again, _ = run_tune(tmp_path, task)
    _, asked, _ = run_tune(tmp_path, task, retry_failed=True)

    assert len(again) == 0
    assert len(asked) == 6


def test_what_the_compiler_rules_out_is_recorded_and_never_run_and_costs_no_try(tmp_path: Path) -> None:

    def inspect(configs: tuple[Settings, ...]) -> list[Inspected]:
        spills = Inspected(status=Status.UNSUPPORTED, reason="spills registers: 8 B of local memory per thread")
        return [spills if dict(config)["num_warps"] == 8 else Inspected() for config in configs]

    finished, tried, _ = run_tune(tmp_path, replace(TASK, inspect=inspect), strategy="random")
    ruled_out = [trial for trial in tried if trial.status is Status.UNSUPPORTED]
    _, second, _ = run_tune(tmp_path, replace(TASK, inspect=inspect), strategy="random")

    assert len(ruled_out) == sum(dict(config)["num_warps"] == 8 for config in fake.space().configs)
    assert len(tried) - len(ruled_out) == 8
    assert second == []
    assert finished.winner is not None


def test_equal_machine_code_with_an_equal_launch_is_timed_once(tmp_path: Path) -> None:

    def inspect(configs: tuple[Settings, ...]) -> list[Inspected]:
        return [Inspected(launch=f"block_n {dict(config)['block_n']}") for config in configs]

    _, tried, _ = run_tune(tmp_path, replace(TASK, inspect=inspect))

    timed = [trial for trial in tried if trial.same_code_as is None]
    assert len({dict(trial.config)["block_n"] for trial in timed}) == len(timed) == 4
    by_config = {trial.config: trial for trial in tried}
    for twin in tried:
        if twin.same_code_as is not None:
            assert twin.measurement == by_config[twin.same_code_as].measurement


def test_a_budget_that_is_spent_ends_the_search_with_a_result(tmp_path: Path) -> None:
    finished, tried, _ = run_tune(tmp_path, TASK, budget_s=0.001)

    assert not finished.in_time
    assert len(tried) < len(fake.space())


def tasks_reached(folder: Path, **options: float) -> int:
    finished: list[Finished] = []
    tasks = [make_task(fake.CLEAN, replace(PROBLEM, m_bucket=m), FAKE_MACHINE, "fake") for m in (1, 2, 4)]
    with Patient("fake") as process:
        tune(
            tasks, folder=folder, process=process, options=Options(strategy="random", run_id="test", **options),
            watcher=Silent(), on_finished=finished.append, on_rejected=lambda _path, _line: None,
        )  # fmt: skip
    return len(finished)


def test_with_a_least_time_per_problem_the_first_is_searched_and_those_out_of_reach_are_left(tmp_path: Path) -> None:
    assert tasks_reached(tmp_path / "least", budget_s=0.5, least_s=0.5) == 1
    assert tasks_reached(tmp_path / "none", budget_s=0.5) == 3
    assert tasks_reached(tmp_path / "ample", budget_s=10.0**6, least_s=0.5) == 3


def test_a_problem_that_cannot_be_set_up_leaves_no_row_and_says_why(tmp_path: Path) -> None:
    finished: list[Finished] = []
    with Patient("cpu") as process:
        tune(
            [TASK], folder=tmp_path, process=process, options=Options(strategy="random", run_id="test"),
            watcher=Silent(), on_finished=finished.append, on_rejected=lambda _path, _line: None,
        )  # fmt: skip

    assert finished[0].refused is not None
    assert "does not run on a CPU" in finished[0].refused
    assert read_journal(tmp_path / "fake.trials.jsonl", Trial).records == ()


def test_damaged_edited_and_foreign_rows_are_named_and_measured_again(tmp_path: Path) -> None:
    run_tune(tmp_path, TASK)
    path = tmp_path / "fake.trials.jsonl"
    lines = path.read_bytes().splitlines()
    lines[3] = lines[3][:100]
    lines[5] = lines[5].replace(b'"fake"', b'"fast"')
    lines[7] = lines[7].replace(b"/trial/1.", b"/trial/7.")
    path.write_bytes(b"\n".join(lines) + b"\n" + lines[9][:50])

    _, tried, rejected = run_tune(tmp_path, TASK)

    assert [(name, line) for name, line, _ in rejected] == [("fake.trials.jsonl", number) for number in (4, 6, 8, 55)]
    assert ["not a JSON" in rejected[0][2], "checksum" in rejected[1][2], "major version 7" in rejected[2][2]] == [
        True
    ] * 3
    assert "torn line" in rejected[3][2]
    assert len(tried) == 3
    assert path.read_bytes().startswith(b"\n".join(lines) + b"\n")
    assert (tmp_path / "fake.trials.jsonl.rejected").read_bytes() == lines[9][:50] + b"\n"


def test_a_full_disk_ends_the_tune_in_one_line_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "lords_bench", "tune", "fake", "--device", "fake", "--exhaustive"]
    command += ["--out", str(tmp_path)]
    full = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, preexec_fn=little_room)
    kept = read_journal(tmp_path / "fake" / "fake.trials.jsonl", Trial)

    again = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    assert full.returncode == 2
    assert "free some space" in full.stderr
    assert "Traceback" not in full.stderr
    assert kept.rejected == ()
    assert 5 < len(kept.records) < len(fake.space())
    assert again.returncode == 0
    configs = [trial.config for trial in read_journal(tmp_path / "fake" / "fake.trials.jsonl", Trial).records]
    assert len(configs) == len(set(configs)) == len(fake.space())


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    code = main(["tune", "fake", "--device", "fake", "--out", str(tmp_path / "file")])

    assert code == 2
    assert "cannot write" in capsys.readouterr().err


def test_two_tuners_on_one_device_are_refused_with_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"

    with (
        device_lock(path),
        pytest.raises(StoreError, match=f"this device is being tuned on by process {os.getpid()}; two would"),
        device_lock(path),
    ):
        pass

    with device_lock(path):
        pass


def test_two_processes_that_tune_other_problems_share_a_store_and_lose_nothing(tmp_path: Path) -> None:
    script = Path(tuner_child.__file__)
    children = [
        subprocess.Popen([sys.executable, str(script), str(tmp_path), str(m)], env=ENVIRONMENT) for m in (1, 2, 4)
    ]

    assert [child.wait() for child in children] == [0, 0, 0]
    found = read_journal(tmp_path / "fake.trials.jsonl", Trial)
    assert found.rejected == ()
    assert Counter(trial.key.problem.m_bucket for trial in found.records) == dict.fromkeys((1, 2, 4), len(fake.space()))


def test_rows_say_that_their_times_are_fake(tmp_path: Path) -> None:
    run_tune(tmp_path, TASK, strategy="random")

    rows = [json.loads(line)["record"] for line in (tmp_path / "fake.trials.jsonl").read_text().splitlines()]
    assert {(row["evidence"], row["key"]["machine"]["gpu"], row["measurement"]["timer"]) for row in rows} == {
        ("fake", "fake", "fake")
    }
    with Rows(tmp_path, "fake") as store:
        run_offs = store.record(TASK.key, "fake").run_offs
    assert {run_off.evidence for run_off in run_offs} == {"fake"}
