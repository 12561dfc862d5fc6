from dataclasses import replace

import pytest

from lords_bench.errors import RecordError
from lords_bench.records.measurement import Measurement
from lords_bench.records.status import Status
from lords_bench.records.trial import MachineCode, RunOff, Settings, Trial, TuningRecord
from lords_bench.records.tuned import Machine, Problem, TunedKey
from lords_bench.tuning.winner import finalists, table_entry, winner

KEY = TunedKey(
    kernel="scale_tile",
    source_sha256="0" * 64,
    problem=Problem(
        m_bucket=8, n=4096, k=4096, bits=4, rank=16, x_dtype="bfloat16", scale_dtype="float16", decoder="grid7"
    ),
    machine=Machine(gpu="Test GPU", capability=(9, 0), multiprocessors=132, driver=None, triton="3.9.0"),
)
ORDER: tuple[Settings, ...] = tuple((("tile", 2**power),) for power in range(12))
ROUNDS = 20


def measured(time_ns: float) -> Measurement:
    """Samples around a time, with the same wobble for everyone, as paired rounds have it."""
    samples = tuple(time_ns * (1 + 0.001 * (index % 5)) for index in range(ROUNDS))
    return Measurement(regime="cold", timer="test", samples_ns=samples, clock_mhz=(None,) * ROUNDS)


def trial(number: int, time_ns: float | None, **changes: object) -> Trial:
    plain = Trial(
        key=KEY,
        evidence="measured",
        config=ORDER[number],
        status=Status.OK if time_ns is not None else Status.CRASH,
        reason=None if time_ns is not None else "signal SIGSEGV",
        measurement=None if time_ns is None else measured(time_ns),
        run_id="a",
        strategy="ranked",
        created_utc="2026-11-22T00:00:00Z",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def run_off(stage: str, times: dict[int, float | None]) -> RunOff:
    return RunOff(
        key=KEY,
        evidence="measured",
        stage=stage,  # type: ignore[arg-type]
        configs=tuple(ORDER[number] for number in times),
        baseline=ORDER[0],
        measurements=tuple(None if time is None else measured(time) for time in times.values()),
        reasons=tuple("crash" if time is None else None for time in times.values()),
        noise_floor=0.003,
        run_id="a",
        created_utc="2026-11-22T00:00:00Z",
    )


def record(*rows: Trial | RunOff) -> TuningRecord:
    return TuningRecord(
        key=KEY,
        evidence="measured",
        trials=tuple(row for row in rows if isinstance(row, Trial)),
        run_offs=tuple(row for row in rows if isinstance(row, RunOff)),
    )


def test_finalists_are_the_default_and_what_is_within_five_percent_of_the_fastest() -> None:
    rows = record(trial(0, 200.0), trial(1, 104.0), trial(2, 100.0), trial(3, 106.0), trial(4, None))

    assert finalists(rows, ORDER) == (ORDER[0], ORDER[2], ORDER[1])


def test_a_try_that_was_given_up_is_no_finalist() -> None:
    assert finalists(record(trial(0, 100.0), trial(1, 99.0, stopped_early=True)), ORDER) == (ORDER[0],)


def test_there_are_at_most_eight_finalists_besides_the_default() -> None:
    rows = record(*[trial(number, 100.0 + number / 10) for number in range(12)])

    assert finalists(rows, ORDER) == ORDER[:8]


def test_without_a_success_there_are_no_finalists_and_no_winner() -> None:
    rows = record(trial(0, None))

    assert finalists(rows, ORDER) == ()
    assert winner(rows, ORDER) is None


def test_a_faster_configuration_wins_once_fresh_samples_confirm_it() -> None:
    rows = record(trial(0, 100.0), trial(1, 80.0), run_off("final", {0: 100.0, 1: 80.0}))
    before = winner(rows, ORDER)
    after = winner(record(*rows.trials, *rows.run_offs, run_off("confirm", {0: 100.0, 1: 82.0})), ORDER)

    assert before is not None
    assert after is not None
    assert (before.config, before.confirmed) == (ORDER[1], False)
    assert (after.config, after.confirmed) == (ORDER[1], True)
    assert after.speedup is not None
    assert after.speedup.median == pytest.approx(100 / 82, rel=1e-3)


def test_a_win_that_fresh_samples_do_not_show_again_is_none() -> None:
    rows = record(
        trial(0, 100.0), trial(1, 90.0), run_off("final", {0: 100.0, 1: 90.0}), run_off("confirm", {0: 100.0, 1: 100.0})
    )

    found = winner(rows, ORDER)

    assert found is not None
    assert (found.config, found.speedup, found.confirmed) == (ORDER[0], None, True)


@pytest.mark.parametrize(
    ("codes", "chosen"),
    [
        (
            {
                1: MachineCode(atomics=True, shared_bytes=1),
                2: MachineCode(shared_bytes=9),
                3: MachineCode(shared_bytes=5),
            },
            3,
        ),
        ({1: MachineCode(atomics=True), 2: MachineCode(shared_bytes=9), 3: MachineCode(atomics=True)}, 2),
        ({1: MachineCode(shared_bytes=4), 2: MachineCode(shared_bytes=4), 3: MachineCode(shared_bytes=4)}, 1),
    ],
    ids=["least shared memory", "no atomics", "order of the space"],
)
def test_of_equally_fast_configurations_the_canonical_one_is_taken(codes: dict[int, MachineCode], chosen: int) -> None:
    times: dict[int, float | None] = {0: 150.0, 1: 100.0, 2: 100.2, 3: 100.4}
    trials = [trial(number, time, code=codes.get(number)) for number, time in times.items()]
    rows = record(*trials, run_off("final", times), run_off("confirm", {0: 150.0, chosen: 100.0}))

    found = winner(rows, ORDER)

    assert found is not None
    assert (found.config, found.ties) == (ORDER[chosen], 3)


def test_the_order_of_rows_does_not_change_the_winner() -> None:
    times: dict[int, float | None] = {0: 150.0, 1: 100.0, 2: 100.2}
    trials = [trial(number, time) for number, time in times.items()]
    run_offs = (run_off("final", times), run_off("confirm", {0: 150.0, 1: 100.0}))

    assert winner(record(*trials, *run_offs), ORDER) == winner(record(*trials[::-1], *run_offs), ORDER)


def test_a_table_takes_a_confirmed_win_with_its_proof() -> None:
    rows = record(
        trial(0, 100.0), trial(1, 80.0), run_off("final", {0: 100.0, 1: 80.0}), run_off("confirm", {0: 100.0, 1: 80.0})
    )
    found = winner(rows, ORDER)
    assert found is not None

    entry = table_entry(rows, found, measured_on="2026-11-22", commit=None)

    assert (entry.choice.settings, entry.default.settings) == (ORDER[1], ORDER[0])
    assert entry.speedup is not None
    assert entry.speedup.low > 1
    assert entry.measured.samples == ROUNDS


@pytest.mark.parametrize("evidence", ["fake", "predicted"])
def test_a_table_refuses_times_that_nobody_measured(evidence: str) -> None:
    rows = record(trial(0, 100.0), run_off("final", {0: 100.0}))
    found = winner(rows, ORDER)
    assert found is not None

    with pytest.raises(RecordError, match=f"times are {evidence}, not measured"):
        table_entry(replace(rows, evidence=evidence), found, measured_on="2026-11-22", commit=None)  # type: ignore[arg-type]


def test_a_table_refuses_a_win_that_was_not_confirmed() -> None:
    rows = record(trial(0, 100.0), trial(1, 80.0), run_off("final", {0: 100.0, 1: 80.0}))
    found = winner(rows, ORDER)
    assert found is not None

    with pytest.raises(RecordError, match="not confirmed"):
        table_entry(rows, found, measured_on="2026-11-22", commit=None)
