"""The latency gate counts a process once and believes no impossible time: corrupted in any way, records are not green.

First what was seen, then every field of a record, changed by machine. A field that may change freely stands in `FREE`
with the reason.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gate_builders import latency_process
from latency_builders import make_case
from lords_bench.gate.finding import LayerResult, Level, exit_code
from lords_bench.gate.latency import compare_latency, judge_latency
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.measurement import Measurement
from mutants import mutants

CASE = make_case()
Records = list[LatencyRecord]


def side(seed: int, *, processes: int = 3, slower: float = 0.0) -> Records:
    return [r for index in range(processes) for r in latency_process((CASE,), slower=slower, seed=100 * seed + index)]


BASE, HEAD = side(1), side(2)


def of_method(*methods: str, change: Callable[[Measurement], dict[str, Any]]) -> Callable[[Records], Records]:
    """Change the measurement of these methods in every process."""

    def changed(records: Records) -> Records:
        return [
            replace(record, measurement=replace(record.measurement, **change(record.measurement)))
            if record.method in methods and record.measurement is not None
            else record
            for record in records
        ]

    return changed


def times(factor: float) -> Callable[[Measurement], dict[str, Any]]:
    return lambda measured: {"samples_ns": tuple(factor * value for value in measured.samples_ns)}


def every(method: str = "lords", **changes: Any) -> Callable[[Records], Records]:
    return lambda records: [replace(r, **changes) if r.method == method else r for r in records]


def copied_process(records: Records) -> Records:
    """The first process again under two other names, instead of the other two."""
    first = [record for record in records if record.run == records[0].run]
    return [
        replace(record, run=replace(record.run, run_id=f"copy-{index}"), comparison_id=f"copy-{index}")
        for index in range(3)
        for record in first
    ]


def without(*methods: str) -> Callable[[Records], Records]:
    return lambda records: [record for record in records if record.method not in methods]


def one_process(change: Callable[[Records], Records]) -> Callable[[Records], Records]:
    def changed(records: Records) -> Records:
        first = [record for record in records if record.run == records[0].run]
        return [*change(first), *(record for record in records if record.run != records[0].run)]

    return changed


def fewer_rounds(measured: Measurement) -> dict[str, Any]:
    fields = ("samples_ns", "clock_mhz", "layouts", "places")
    return {field: getattr(measured, field)[:-2] for field in fields if getattr(measured, field) is not None}


def half_dropped(measured: Measurement) -> dict[str, Any]:
    return {"dropped": tuple((index, "slow") for index in range(0, len(measured.samples_ns), 3))}


LISTED: dict[str, tuple[Callable[[Records], Records], int, str]] = {
    "one process three times under other names": (copied_process, 2, "is a copy of process copy-0 of the head"),
    "the baseline's own samples": (lambda _: BASE, 2, "is a copy of process run-100 of the baseline"),
    "two different records of one process": (
        lambda records: [*records, *every(worst_error=0.4)(records[:1])], 2, "one process has two different records",
    ),
    "twice as fast and more": (of_method("lords", change=times(0.45)), 2, "2.22 times as fast is not believed"),
    "faster than memory": (of_method("lords", change=times(0.1)), 2, "is more than the 4200 GB/s that memory was"),
    "faster than tensor cores": (every(flops=10**13), 2, "TFLOP/s is more than the 700"),
    "no A/A comparison": (without("dense-again"), 2, "the dense product was not timed against itself, so there"),
    "no dense product": (without("dense"), 2, "its comparison has no dense product"),
    "a dense product of twice the time": (
        of_method("dense", "dense-again", change=times(2.0)), 2, "and no code of this project touches it",
    ),
    "a candidate that differs from itself": (
        of_method("dense-again", change=times(1.3)), 2, "a candidate differs from itself by 30%",
    ),
    "equal samples": (
        of_method("lords", "dense", "dense-again", change=lambda m: {"samples_ns": (10_000.0,) * len(m.samples_ns)}),
        2, "no round differs from another",
    ),
    "other numbers of rounds": (of_method("lords", change=fewer_rounds), 2, "different numbers of rounds"),
    "a third of the rounds dropped": (of_method("lords", change=half_dropped), 2, "too many rounds were dropped"),
    "fewer bits": (every(bits_per_weight=4.125), 2, "bits per weight 4.25 → 4.125 at one specification"),
    "more bits": (every(bits_per_weight=4.2505), 1, "stores more: bits per weight 4.25 → 4.25"),
    "fewer bits than codes": (every(bits_per_weight=3.9), 2, "its codes alone need more"),
    "no check": (every(worst_error=None), 2, "its result was not checked"),
    "an exact result": (every(worst_error=0.0), 2, "is exact in low precision"),
    "fewer operations": (every(flops=2 * 16 * 4096 * 2048), 2, "a product of this shape has other operations"),
    "fewer bytes moved than stored": (every(bytes_moved=10**6), 2, "it moves less than it stores"),
    "one process twice as slow": (
        one_process(of_method("lords", change=times(2.0))), 2, "differs from itself by ",
    ),
    "two processes without the dense product": (
        one_process(without("dense")), 2, "its comparison has no dense product",
    ),
}  # fmt: skip


def said(result: LayerResult) -> str:
    return "\n".join(f"{finding.level}: {finding.benchmark}: {finding.what}" for finding in result.findings)


def test_equal_code_is_green() -> None:
    result = compare_latency(BASE, HEAD)

    assert (exit_code([result], strict=True), result.findings, result.same) == (0, (), 1)


@pytest.mark.parametrize("name", LISTED)
def test_what_cannot_be_is_never_green(name: str) -> None:
    corrupt, code, message = LISTED[name]

    result = compare_latency(BASE, corrupt(HEAD))

    assert message in said(result)
    assert exit_code([result]) == code, said(result)
    assert result.of(Level.IMPROVEMENT) == ()


@pytest.mark.parametrize("name", LISTED)
def test_a_corrupt_baseline_is_never_green_either(name: str) -> None:
    corrupt, _, _ = LISTED[name]

    assert exit_code([compare_latency(corrupt(BASE) if name != "the baseline's own samples" else HEAD, HEAD)]) != 0


def test_a_repeated_record_counts_once_and_is_said() -> None:
    """Two processes that are there twice are two, not four; three that are there twice are three."""
    two = compare_latency(BASE, [*HEAD[:6], *HEAD[:6]])
    three = compare_latency(BASE, [*HEAD, *HEAD])

    assert exit_code([two]) == 2
    assert "the head has 2 processes; at least 3 are needed" in said(two)
    assert (exit_code([three]), exit_code([three], strict=True)) == (0, 1)
    assert "9 of the head's 18 records are there more than once; each is counted once" in said(three)
    assert judge_latency(BASE, [*HEAD, *HEAD]) == judge_latency(BASE, HEAD)


def test_a_benchmark_that_vanished_from_two_processes_is_not_made_up_for_by_repeating_the_third() -> None:
    lords = next(record for record in HEAD if record.method == "lords")

    result = compare_latency(BASE, [lords, lords, lords, *without("lords")(HEAD)])

    assert exit_code([result]) == 1
    assert "vanished: the baseline times it in 3 processes, this tree in 1" in said(result)


def test_repeating_the_records_does_not_narrow_the_noise_between_processes() -> None:
    """A slowdown that three processes do not settle is not settled by counting them thrice."""
    wandering = [
        record
        for index, slower in enumerate((0.0, 0.02, 0.04))
        for record in latency_process((CASE,), slower=slower, seed=900 + index)
    ]

    once, thrice = (compare_latency(BASE, wandering * count) for count in (1, 3))

    assert once.of(Level.REGRESSION) == thrice.of(Level.REGRESSION) == ()


def test_a_gain_that_is_too_large_is_believed_where_somebody_says_that_he_timed_again() -> None:
    head = of_method("lords", change=times(0.45))(HEAD)

    result = compare_latency(BASE, head, believed=(CASE.case_id,))

    assert exit_code([result], strict=True) == 0
    assert "believed because --believe says that it was timed again" in said(result)


def test_a_smaller_gain_is_an_improvement() -> None:
    result = compare_latency(BASE, of_method("lords", change=times(0.8))(HEAD))

    assert [finding.level for finding in result.findings] == [Level.IMPROVEMENT]


FREE = {
    "run.run_id": "names the process, and nothing else does",
    "measurement.layouts": "which buffers a sample was taken on; processes are compared by their medians",
    "measurement.places": "at which place of its round a sample was taken; processes are compared by their medians",
    "run.libraries": "other people's kernels are not gated",
    "run.facts": "what the device says about itself, clocks and load among it",
    "run.peaks.copy_gbps": "a ceiling; times are held against it",
    "run.peaks.read_gbps": "a ceiling; times are held against it",
    "run.peaks.matmul_tflops": "a ceiling; times are held against it",
    "run.size": "which cases were asked for; those that are gone are noticed",
    "run.tables_sha256": "tuned tables are part of the change",
    "run.planned_comparisons": "the records themselves are counted",
    "run.command": "how it was called",
    "run.environment.lords_bench": "the sides are different code by design",
    "run.environment.source_sha256": "the sides are different code by design",
    "run.environment.git_commit": "the sides are different code by design",
    "run.environment.git_dirty": "a change is judged before it is committed; a baseline must be clean",
    "run.environment.transformers": "not in the path of a product",
    "run.environment.numpy": "not in the path of a product",
    "run.environment.platform": "the machine's name decides",
    "run.environment.cpu_model": "the device is the GPU, and the machine's name decides",
    "run.environment.cpu_cores": "the device is the GPU, and the machine's name decides",
    "run.environment.torch_threads": "the device is the GPU, and the machine's name decides",
    "run.environment.memory_bytes": "the machine's name decides",
    "methods": "the records themselves are counted",
    "kernel": "what ran is the change",
    "config": "what ran is the change",
    "config_origin": "what ran is the change",
    "worst_error": "between 0 and 1 in units of its bound",
    "bytes_moved": "an upper bound of the time; what is stored is its least",
    "notes": "for the reader",
    "created_utc": "a date",
    "measurement.timer": "in words",
    "measurement.launches_per_sample": "samples are of one launch already",
    "measurement.clock_mhz": "for the reader; ratios within a round need no clock",
    "measurement.dropped": "a fifth of the rounds may be dropped for a cause",
    "measurement.energy_mj": "for the reader",
    "measurement.samples_ns": "one round of one process is noise; the median of all is judged, see the table above",
    "case.model": "a case of another name vanished, and in one process of three that is a process less",
    "case.layer": "likewise",
    "comparison_id": "names the rounds that belong together",
}


def test_no_field_of_a_record_changes_unnoticed_unless_there_is_a_reason() -> None:
    green: dict[str, str] = {}
    seen: set[str] = set()

    for path, mutant in mutants(HEAD[0]):
        result = compare_latency(BASE, [mutant, *HEAD[1:]])
        seen.add(path)
        if exit_code([result]) == 0:
            green.setdefault(path, said(result))

    assert {path: what for path, what in green.items() if path not in FREE} == {}
    assert len(seen) > 40


@pytest.mark.parametrize("method", ["lords", "dense", "dense-again"])
@pytest.mark.parametrize("factor", [2.0, 0.5, 0.1, 10.0])
def test_scaling_all_samples_of_a_method_is_noticed_in_one_process_and_in_all(method: str, factor: float) -> None:
    change = of_method(method, change=times(factor))

    assert exit_code([compare_latency(BASE, change(HEAD))]) != 0
    assert exit_code([compare_latency(BASE, one_process(change)(HEAD))]) != 0
