"""The latency layer on fake devices: a slowdown of 2 % is found, equal trees are green, and nothing can go missing."""

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gate_builders import latency_process
from latency_builders import make_case
from lords_bench.cli.gate import latency_layer
from lords_bench.errors import UsageError
from lords_bench.gate.benchmarks import not_timed
from lords_bench.gate.finding import LayerResult, Level, exit_code
from lords_bench.gate.latency import compare_latency, judge_latency, open_cases
from lords_bench.records.latency import LatencyCase, LatencyRecord
from lords_bench.records.status import Status
from lords_bench.timing.fake import FakeNoise

CASES = tuple(make_case(m=m) for m in (1, 16, 64))
SEEDS = itertools.count(1000)
# A shared device that drifts, spikes and favours whoever comes first.
BUSY = FakeNoise(jitter=0.01, drift=0.03, spike_rate=0.03, spike_size=0.5, second_place=0.004, timer_step_ns=32.0)


def side(*, slower: float = 0.0, processes: int = 3, seed: int = 0, **changes: Any) -> list[LatencyRecord]:
    return [
        record
        for index in range(processes)
        for record in latency_process(CASES, slower=slower, seed=1000 * seed + index, **changes)
    ]


def test_a_slowdown_of_two_percent_is_a_regression_of_its_benchmark_alone() -> None:
    slow = [
        record
        for index in range(3)
        for case in CASES
        for record in latency_process(
            (case,), slower=0.02 if case.m == 16 else 0.0, seed=50 + index, run_id=f"head-{index}"
        )
    ]

    result = compare_latency(side(seed=1), slow)

    (finding,) = result.of(Level.REGRESSION)
    assert finding.benchmark == "llama-3-8b/o_proj-m16-b4-g64 lords (cold)"
    assert finding.what.startswith("slower: time +")
    assert exit_code([result]) == 1


def test_equal_trees_are_green_twenty_times_of_twenty() -> None:
    results = [compare_latency(side(seed=2 * run), side(seed=2 * run + 1)) for run in range(1, 21)]

    assert [exit_code([result]) for result in results] == [0] * 20
    assert {len(result.of(Level.REGRESSION)) for result in results} == {0}


def test_equal_trees_on_a_noisy_device_are_never_a_regression() -> None:
    results = [compare_latency(side(seed=2 * s, noise=BUSY), side(seed=2 * s + 1, noise=BUSY)) for s in range(30, 40)]

    assert [exit_code([result]) for result in results] == [0] * 10


def test_what_processes_of_one_side_differ_by_is_part_of_the_noise_floor() -> None:
    """Each process of the head has its own offset, 0 to 4 %: the mean is 2 % slower, and that is no regression."""
    head = [r for i, off in enumerate((0.0, 0.02, 0.04)) for r in latency_process(CASES, slower=off, seed=600 + i)]

    result = compare_latency(side(seed=7), head)

    assert result.of(Level.REGRESSION) == ()


def test_a_clock_that_slows_a_whole_process_down_cancels() -> None:
    """Dense and LoRDS slow down together by 10 % in the head's processes."""
    result = compare_latency(side(seed=8), side(seed=9, clock=1.1))

    assert result.findings == ()


def test_a_missing_benchmark_and_one_that_fails_now_are_regressions() -> None:
    base = side(seed=10)
    head = [record for record in side(seed=11) if record.case.m != 64]
    head = [
        replace(record, status=Status.UNSUPPORTED, reason="no such shape", measurement=None, worst_error=None)
        if (record.case.m, record.method) == (16, "lords")
        else record
        for record in head
    ]

    result = compare_latency(base, head)

    assert exit_code([result]) == 1
    assert {(finding.benchmark, finding.what) for finding in result.of(Level.REGRESSION)} == {
        (
            "llama-3-8b/o_proj-m64-b4-g64 lords (cold)",
            "vanished: the baseline times it in 3 processes, this tree in 0",
        ),
        (
            "llama-3-8b/o_proj-m16-b4-g64 lords (cold)",
            "was timed, now unsupported in 3 of 3 processes: no such shape",
        ),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu_name": "Other GPU"}, "the sides differ in device: Example GPU against Other GPU"),
        ({"torch": "2.14.0"}, "the sides differ in torch"),
        ({"processes": 2}, "the head has 2 processes; at least 3 are needed"),
    ],
)
def test_sides_that_answer_different_questions_are_invalid(changes: dict[str, Any], message: str) -> None:
    result = compare_latency(side(seed=12), side(seed=13, **changes))

    assert exit_code([result]) == 2
    assert any(message in finding.what for finding in result.of(Level.INVALID))


def test_without_records_there_is_no_baseline() -> None:
    assert exit_code([compare_latency([], side(seed=14))]) == 3


def test_only_cases_that_are_open_are_timed_again_and_on_both_sides() -> None:
    asked: dict[str, list[tuple[str, ...]]] = {"head": [], "base": []}

    def collect(name: str, wanted: Sequence[str]) -> tuple[LatencyRecord, ...]:
        asked[name].append(tuple(wanted))
        cases = tuple(case for case in CASES if not wanted or case.case_id in wanted)
        return tuple(
            record
            for case in cases
            # The head's M = 16 wanders by 4 % from process to process: that stays open for ever.
            for record in latency_process(
                (case,),
                slower=0.04 * (len(asked[name]) % 2) if name == "head" and case.m == 16 else 0.0,
                seed=next(SEEDS),
                run_id=f"{name}-{len(asked[name])}",
            )
        )

    arguments = argparse.Namespace(processes=3, retries=1, save=None, believe=())
    result = latency_layer.judged_sides(
        lambda wanted: collect("head", wanted), lambda wanted: collect("base", wanted), arguments
    )

    again = [("llama-3-8b/o_proj-m16-b4-g64",)] * 3
    assert asked == {"head": [(), (), (), *again], "base": [(), (), (), *again]}
    assert [finding.level for finding in result.findings] == [Level.WARNING]


def test_a_benchmark_is_open_until_it_is_settled() -> None:
    base, wandering = side(seed=20), side(seed=21)
    assert open_cases(base, wandering) == ()
    assert all(not found.is_open for found in judge_latency(base, wandering).values())


def result_of(*cases: LatencyCase) -> LayerResult:
    return compare_latency(
        [r for i in range(3) for r in latency_process(cases, seed=i)],
        [r for i in range(3) for r in latency_process(cases, seed=10 + i)],
    )


def test_the_facts_name_threshold_noise_and_both_sides() -> None:
    facts = "\n".join(result_of(CASES[0]).facts)

    assert "more than 1%" in facts
    assert "Holm's correction over 1 benchmarks" in facts
    assert "noise floor: " in facts
    assert "head: 0123456789ab, 3 processes on Example GPU" in facts


def test_a_method_of_the_same_code_is_the_same_whatever_its_time_and_says_so() -> None:
    result = compare_latency(side(seed=40), side(seed=41, slower=0.05), same_code=("lords",))

    assert (exit_code([result], strict=True), result.same) == (0, 3)
    (note,) = result.findings
    assert note.level is Level.NOTE
    assert note.what.startswith("same by source, 3 benchmarks of lords: their kernels, ")
    assert exit_code([compare_latency(side(seed=40), side(seed=41, slower=0.05))]) == 1


def test_a_method_of_the_same_code_that_fails_or_is_missing_is_still_a_regression() -> None:
    head = [record for record in side(seed=43) if record.case.m != 64]

    result = compare_latency(side(seed=42), head, same_code=("lords",))

    assert exit_code([result]) == 1
    assert result.same == 2


def test_benchmarks_of_the_same_code_are_never_timed_again() -> None:
    """Without the proof this side stays open: its processes differ by 4 %."""
    head = [r for i, off in enumerate((0.0, 0.04, 0.08)) for r in latency_process(CASES, slower=off, seed=700 + i)]

    assert open_cases(side(seed=44), head, same=("lords",)) == ()
    assert open_cases(side(seed=44), head) != ()


def test_nothing_is_timed_where_every_gated_method_is_of_the_same_code() -> None:
    keys = [("case", "cold", method) for method in ("lords", "nf-block", "dense", "bitsandbytes")]

    result = not_timed(keys, commit="0123456789abcdef")

    assert result.benchmarks == ("case lords (cold)", "case nf-block (cold)")
    assert (result.same, exit_code([result], strict=True)) == (2, 0)
    assert "nothing was timed against 0123456789ab, --measure-anyway does it" in result.findings[0].what


def test_a_baseline_process_that_ran_other_code_is_refused() -> None:
    records = tuple(side(seed=45, processes=1))
    commit = str(records[0].run.environment.git_commit)

    assert latency_layer.of_commit(lambda _cases: records, commit)(()) == records
    with pytest.raises(UsageError, match="timing 999999999999 ran the code of 0123456789ab; unset PYTHONSAFEPATH"):
        latency_layer.of_commit(lambda _cases: records, "9" * 40)(())
