"""What a configuration can do to its evaluation process, and that it costs no more than that configuration."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lords_bench.errors import DeviceError
from lords_bench.records.status import Status
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.tuning import fake
from lords_bench.tuning.process import EvaluationProcess
from tuner_child import Patient

PROBLEM = Problem(
    m_bucket=8, n=4096, k=4096, bits=4, rank=16, x_dtype="bfloat16", scale_dtype="float16", decoder="grid7"
)
CONFIGS = fake.space().configs


@pytest.fixture(scope="module")
def process() -> Iterator[EvaluationProcess]:
    with Patient("fake") as found:
        found.open(fake.FAULTY, PROBLEM)
        yield found


def fault_named(name: str) -> Settings:
    return next(c for c in CONFIGS if (fault := fake.fault_of(c)) is not None and fault.__name__ == name)


def test_a_configuration_that_is_right_has_seven_samples(process: EvaluationProcess) -> None:
    found = process.attempt(CONFIGS[0], stop_above_ns=None)

    assert (found.status, found.stopped_early) == (Status.OK, False)
    assert found.measurement is not None
    assert found.measurement.n == 7
    assert found.measurement.median_ns == pytest.approx(fake.truth_ns(CONFIGS[0], PROBLEM), rel=0.01)


def test_one_sample_far_behind_the_best_ends_a_try(process: EvaluationProcess) -> None:
    found = process.attempt(CONFIGS[0], stop_above_ns=1.0)

    assert found.stopped_early
    assert found.measurement is not None
    assert found.measurement.n == 1


@pytest.mark.parametrize(
    ("fault", "status", "reason", "restarts"),
    [
        ("_hang", Status.TIMEOUT, "no answer within 0.5 s; killed", True),
        ("_abort", Status.CRASH, "signal SIGABRT", True),
        ("_segfault", Status.CRASH, "signal SIGSEGV", True),
        ("_out_of_resources", Status.OUT_OF_MEMORY, "OutOfResources: out of resource: shared memory", False),
        ("_wrong", Status.INCORRECT, "3.1 times its bound at row 5", False),
        ("_sticky", Status.LAUNCH_ERROR, "illegal memory access", True),
    ],
)
def test_a_configuration_that_fails_is_told_with_its_status_and_the_next_one_is_measured(
    process: EvaluationProcess, fault: str, status: Status, reason: str, *, restarts: bool
) -> None:
    process.attempt(CONFIGS[0], stop_above_ns=None)
    started = process.started

    found = process.attempt(fault_named(fault), stop_above_ns=None)
    after = process.attempt(CONFIGS[0], stop_above_ns=None)

    assert found.status is status
    assert found.reason is not None
    assert reason in found.reason
    assert found.measurement is None
    assert after.status is Status.OK
    assert process.started - started == restarts


def test_a_run_off_in_which_a_configuration_kills_the_process_has_a_reason_for_each(process: EvaluationProcess) -> None:
    duel = process.run_off((CONFIGS[0], fault_named("_abort")), quick=True)

    assert duel.measurements == (None, None)
    assert [reason is not None and "SIGABRT" in reason for reason in duel.reasons] == [True, True]


def test_a_run_off_goes_on_without_a_configuration_that_turns_out_wrong(process: EvaluationProcess) -> None:
    duel = process.run_off((CONFIGS[0], fault_named("_wrong")), quick=True)

    assert duel.measurements[0] is not None
    assert duel.measurements[1] is None
    assert duel.reasons[1] == "incorrect: error is 3.1 times its bound at row 5, column 17"
    assert duel.noise_floor is not None


def test_a_clock_that_goes_backwards_neither_ends_a_try_nor_keeps_it_waiting(
    process: EvaluationProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))

    assert process.attempt(CONFIGS[0], stop_above_ns=None).status is Status.OK


def test_an_evaluation_process_is_in_a_group_of_its_own_and_is_gone_when_stopped() -> None:
    with Patient("fake") as process:
        process.open(fake.CLEAN, PROBLEM)
        process.attempt(CONFIGS[0], stop_above_ns=None)
        worker = process.pid
        assert worker is not None
        assert os.getpgid(worker) != os.getpgid(0)

    assert not Path(f"/proc/{worker}").exists()


def test_a_problem_that_cannot_be_set_up_is_refused_and_blamed_on_no_configuration() -> None:
    with Patient("cpu") as process:
        process.open("scale_tile", PROBLEM)

        with pytest.raises(DeviceError, match=r"scale_tile cannot be set up on device 'cpu': .* does not run on a CPU"):
            process.attempt(CONFIGS[0], stop_above_ns=None)
