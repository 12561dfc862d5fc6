"""What cannot be, from records alone: each rule has a record just inside and one just outside of it."""

from dataclasses import replace

import pytest

from gate_builders import true_record, true_samples, true_study, with_samples
from lords_bench.quant import QuantSpec
from lords_bench.records import BenchRecord
from lords_bench.records.plausible import contradictions, contradictions_of_run, scored_another_model


def of(records: list[BenchRecord], case_id: str) -> tuple[str, ...]:
    return contradictions_of_run(records).get(case_id, ())


def swapped(records: list[BenchRecord], record: BenchRecord) -> list[BenchRecord]:
    return [record if other.case_id == record.case_id else other for other in records]


def case(records: list[BenchRecord], case_id: str) -> BenchRecord:
    return next(record for record in records if record.case_id == case_id)


def test_a_run_of_true_records_has_nothing_against_it() -> None:
    assert contradictions_of_run(true_study()) == {}
    assert tuple(contradictions(true_record())) == ()


def test_a_failed_case_contradicts_nothing() -> None:
    failed = replace(true_record(), samples=None, status="crash", reason="it fell")

    assert tuple(contradictions(failed)) == ()


@pytest.mark.parametrize(("kl", "is_true"), [(1.1e-3, True), (0.9e-3, False)])
def test_kl_is_at_least_a_thousandth_of_the_weight_error(kl: float, is_true: bool) -> None:
    """Errors of 1 of 100 and 4 of 200 are 0.015 on average; over 250 tokens that is 0.00375 nats."""
    samples = true_samples(window_kl_nats=tuple(kl * 0.015 * tokens for tokens in (100, 100, 50)))

    assert (not tuple(scored_another_model(samples))) is is_true


def test_a_short_window_may_hardly_diverge_and_a_long_one_may_not() -> None:
    short = true_samples(window_tokens=(7, 100, 50), window_kl_nats=(0.0, 2.0, 0.5))
    long = true_samples(window_tokens=(8, 100, 50), window_kl_nats=(0.0, 2.0, 0.5))

    assert tuple(scored_another_model(short)) == ()
    assert tuple(scored_another_model(long)) == (
        "KL of 0 nats over the 8 tokens of window 0 at a weight error of 0.015",
    )


def test_fewer_bits_of_one_method_have_a_larger_error_and_a_larger_kl() -> None:
    records = true_study()
    three, two = case(records, "lords-b3-g64"), case(records, "lords-b2-g64")
    assert three.samples is not None
    better = with_samples(
        two,
        layer_squared_error=tuple(0.9 * value for value in three.samples.layer_squared_error),
        window_kl_nats=tuple(0.9 * value for value in three.samples.window_kl_nats),
        window_nll_nats=three.samples.window_nll_nats,
    )

    found = [what for what in of(swapped(records, better), "lords-b2-g64") if "having more bits" in what]

    assert [what.split(" ")[0] for what in found] == ["weight", "KL"]


def test_mixed_precision_names_the_layers_that_were_quantized() -> None:
    records = true_study()
    mixed = case(records, "nf4+nf2-b3-g64")
    assert mixed.mixed is not None
    renamed = replace(mixed, mixed=(("another", mixed.mixed[0][1]), *mixed.mixed[1:]))

    assert "its mixed precision names other layers than those that were quantized" in of(
        swapped(records, renamed), "nf4+nf2-b3-g64"
    )


def test_two_names_of_one_specification_may_have_equal_results_and_two_specifications_may_not() -> None:
    first = true_record("a", planned_case_ids=("a", "b"))
    same = replace(first, case_id="b")
    other = replace(same, spec=QuantSpec(method="lords-paper", bits=4))

    assert of([first, same], "b") == ()
    assert of([first, other], "b") == ("its results are those of a, to the last digit",)


def test_a_rank_that_the_layer_cannot_have_is_said() -> None:
    record = true_record(spec=QuantSpec(method="lords", bits=4, rank=200))

    (what,) = contradictions(record)
    assert "stores 8704 bytes, its spec and shape 128×128 need another rank than 200, and 1 layers more" in what
