"""The accuracy layer: a worse codebook is caught, equal numbers are the same, other inputs are INVALID, not green."""

from typing import Any

import pytest

from gate_builders import true_record, true_samples, true_study, with_samples
from lords_bench.gate.accuracy import compare_accuracy, last_run
from lords_bench.gate.finding import Level, Located, exit_code
from lords_bench.records import BenchRecord, Status
from record_builders import changed, make_environment, make_inputs


def placed(records: list[BenchRecord]) -> list[Located[BenchRecord]]:
    return [
        Located(record=record, place=f"reports/records/cpu/accuracy.jsonl#L{line}")
        for line, record in enumerate(records, start=1)
    ]


def worse(record: BenchRecord, factor: float) -> BenchRecord:
    """Another model with other weights: its error, its divergence and its likelihood move together."""
    assert record.samples is not None
    kl = record.samples.window_kl_nats
    return with_samples(
        record,
        window_kl_nats=tuple(factor * value for value in kl),
        window_nll_nats=tuple(
            nll + 0.9 * (factor - 1) * value for nll, value in zip(record.samples.window_nll_nats, kl, strict=True)
        ),
        layer_squared_error=tuple(factor * value for value in record.samples.layer_squared_error),
    )


def test_an_unchanged_tree_is_green_twenty_times_of_twenty() -> None:
    base = true_study()

    results = [compare_accuracy(placed(base), true_study()) for _ in range(20)]

    assert [(exit_code([r], strict=True), r.same, r.findings) for r in results] == [(0, len(base), ())] * 20


def test_a_worse_codebook_is_a_regression_of_its_cases_alone() -> None:
    head = [worse(r, 1.3) if r.case_id == "lords-b3-g64" else r for r in true_study()]

    result = compare_accuracy(placed(true_study()), head)

    assert exit_code([result]) == 1
    kl, likelihood, error = result.of(Level.REGRESSION)
    assert {kl.benchmark, likelihood.benchmark, error.benchmark} == {"lords-b3-g64"}
    assert kl.what.startswith("KL ")
    assert "+30.00% (95 %: +25.25% to +34.82%), threshold 2.0%" in kl.what
    assert error.what.startswith("weight error ")
    assert kl.record is not None
    assert kl.record.startswith("reports/records/cpu/accuracy.jsonl#L")


def test_a_loss_below_the_threshold_is_noted_and_a_gain_is_an_improvement() -> None:
    slight = [worse(r, 1.005) if r.case_id == "lords-b3-g64" else r for r in true_study()]
    better = [worse(r, 0.95) if r.case_id == "lords-b3-g64" else r for r in true_study()]

    noted, improved = (compare_accuracy(placed(true_study()), head) for head in (slight, better))

    assert ({f.level for f in noted.findings}, exit_code([noted])) == ({Level.NOTE}, 0)
    assert {f.what.split(" ")[0] for f in improved.of(Level.IMPROVEMENT)} == {"KL", "weight"}
    assert exit_code([improved], strict=True) == 0


def test_more_stored_bits_are_a_regression() -> None:
    head = true_record(samples=true_samples(layer_stored_bytes=(9216, 36864)))

    result = compare_accuracy(placed([true_record()]), [head])

    assert [finding.what for finding in result.of(Level.REGRESSION)] == [
        "bits per weight 4.250 → 4.500 (+0.250), +2560 bytes"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": make_inputs(corpus_sha256="d" * 64)}, "corpus hash dddddddddddd here, cccccccccccc there"),
        ({"inputs": make_inputs(settings=(("choice_items", 60), ("window_tokens", 256)))}, "window_tokens 256 here"),
        ({"seed": 1}, "seed 1 here, 0 there"),
        ({"environment": make_environment(torch="2.14.0")}, "torch 2.14.0 here, 2.13.0+cpu there"),
        ({"environment": make_environment(python="3.12.1")}, "python 3.12.1 here, 3.11.7 there"),
        ({"environment": make_environment(cpu_model="Another CPU")}, "processor Another CPU here, "),
    ],
)
def test_other_inputs_seed_or_versions_are_invalid_and_said_once(changes: dict[str, Any], message: str) -> None:
    result = compare_accuracy(placed(true_study()), [changed(record, **changes) for record in true_study()])

    assert exit_code([result]) == 2
    (finding,) = result.findings
    assert finding.level is Level.INVALID
    assert message in finding.what


def test_a_missing_case_and_a_failed_one_are_regressions() -> None:
    base = [true_record("a", planned_case_ids=("a", "b")), true_record("b", planned_case_ids=("a", "b"))]
    head = [true_record("a", status=Status.OUT_OF_MEMORY)]

    result = compare_accuracy(placed(base), head)

    assert exit_code([result]) == 1
    found = {finding.benchmark: finding.what for finding in result.of(Level.REGRESSION)}
    assert found["a"] == "was measured, now out_of_memory: it did not work"
    assert found["b"].startswith("vanished: the baseline has it")


def test_a_head_that_was_cut_short_is_invalid() -> None:
    head = [true_record("a", planned_case_ids=("a", "b"))]

    result = compare_accuracy(placed([true_record("a")]), head)

    assert exit_code([result]) == 2
    assert "the head's run planned b and has no record of it" in result.findings[0].what


def test_a_baseline_from_a_changed_tree_is_invalid() -> None:
    base = true_record(environment=make_environment(git_dirty=True))

    result = compare_accuracy(placed([base]), [true_record()])

    assert exit_code([result]) == 2
    assert "the baseline's record is incomplete or from a changed tree" in result.findings[0].what


def test_a_new_case_has_no_baseline() -> None:
    assert exit_code([compare_accuracy([], [true_record()])]) == 3


def test_the_last_run_of_a_file_is_its_baseline() -> None:
    old = true_record("a", environment=make_environment(source_sha256="1" * 64))

    assert [item.record for item in last_run(placed([old, true_record("a")]))] == [true_record("a")]
    assert last_run([]) == ()
