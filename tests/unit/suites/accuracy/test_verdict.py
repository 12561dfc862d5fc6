"""The verdict in words: wins, losses and open questions are worded alike and follow the intervals."""

from typing import Any

from lords_bench.records import AccuracySamples, BenchRecord
from lords_bench.stats import PairedVerdict
from lords_bench.suites.accuracy.judge import (
    QUESTIONS,
    BitsGroup,
    answer,
    best_of,
    bits_groups,
    headline,
    headline_groups,
    select_evaluations,
)
from record_builders import changed, make_environment, study

LORDS_NF, LORDS_BLOCK, LORDS_GPTQ = QUESTIONS[:3]


def _columns(records: list[BenchRecord]) -> tuple[BitsGroup, ...]:
    return headline_groups(bits_groups(select_evaluations(records, suite="accuracy")[0]))


def _verdict(records: list[BenchRecord]) -> tuple[str, ...]:
    return headline(bits_groups(select_evaluations(records, suite="accuracy")[0]))


def _with_samples(record: BenchRecord, **changes: Any) -> BenchRecord:
    assert record.samples is not None
    fields = {name: getattr(record.samples, name) for name in AccuracySamples.__dataclass_fields__}
    return changed(record, samples=AccuracySamples(**{**fields, **changes}))


def _scaled_kl(records: list[BenchRecord], method: str, factor: float) -> list[BenchRecord]:
    """The study with one method's divergence scaled."""
    return [
        _with_samples(record, window_kl_nats=tuple(factor * value for value in record.samples.window_kl_nats))
        if record.method == method and record.samples is not None
        else record
        for record in records
    ]


def test_the_verdict_names_wins_losses_and_open_questions() -> None:
    first, second = _verdict(study(windows=60))

    assert first == (
        "At equal measured bits, LoRDS is better than NormalFloat blocks at 4, 3 and 2 bits; "
        "better than optimised blocks at 3 and 2 bits, not resolved at 4 bits; "
        "worse than GPTQ, which uses calibration data, at 4, 3 and 2 bits."
    )
    assert second.startswith("With the same calibration data, LoRDS with error feedback is better than GPTQ at")


def test_a_loss_is_worded_like_a_win() -> None:
    first, _ = _verdict(_scaled_kl(study(windows=60), "lords", 3.0))

    assert "LoRDS is worse than NormalFloat blocks at 4, 3 and 2 bits" in first
    assert "worse than optimised blocks at 4, 3 and 2 bits" in first


def test_without_a_pair_there_is_no_verdict() -> None:
    records = [record for record in study() if record.method in ("nf4", "nf3", "nf2", "block-opt")]

    assert _verdict(records) == ("No verdict: no LoRDS case has a baseline at equal measured bits.",)


def test_an_answer_gives_the_change_in_per_cent_with_its_interval() -> None:
    four_bits = _columns(study(windows=60))[0]

    reply = answer(LORDS_NF, four_bits)

    assert reply.outcome is PairedVerdict.BETTER
    assert reply.words == "better"
    assert reply.change.startswith("−1")
    assert reply.change.endswith(" %")
    assert " … −" in reply.change_interval


def test_an_absent_method_is_said_to_be_absent() -> None:
    records = [record for record in study() if record.method != "gptq"]

    reply = answer(LORDS_GPTQ, _columns(records)[0])

    assert reply.words == "not compared"
    assert reply.note == "no gptq at equal bits"


def test_a_baseline_of_another_uncommitted_run_is_refused_in_words() -> None:
    dirty = make_environment(git_dirty=True, source_sha256="6" * 64)
    records = [changed(r, environment=dirty) if r.method == "block-opt" else r for r in study()]

    reply = answer(LORDS_BLOCK, _columns(records)[0])

    assert reply.outcome is None
    assert reply.note == "block-opt comes from an uncommitted tree of another run"


def test_another_metric_that_says_the_opposite_is_mentioned() -> None:
    records = [
        _with_samples(record, window_nll_nats=tuple(1.1 * value for value in record.samples.window_nll_nats))
        if record.method == "lords" and record.samples is not None
        else record
        for record in study()
    ]

    assert answer(LORDS_NF, _columns(records)[0]).note == "bits per byte says worse"


def test_the_best_case_names_what_is_not_resolved_from_it() -> None:
    best = best_of(_columns(study())[0])

    assert {best.row.record.method, *best.ties} == {"block-gptq", "lords-gptq"}
    assert best.uncompared == ()


def test_the_best_case_names_what_cannot_be_compared_with_it() -> None:
    records = [changed(r, complete=r.method != "nf4") for r in study()]

    assert best_of(_columns(records)[0]).uncompared == ("nf4",)
