"""Which records stand together: decided by their content, never by their order, and said on the page."""

import random
from typing import Any

import pytest

from lords_bench.errors import RecordError
from lords_bench.records import BenchRecord, Status
from lords_bench.suites.accuracy.judge import comparison_refusal, equal_bits, select_evaluations
from record_builders import changed, make_environment, make_inputs, make_record, make_samples, study


def _only(records: list[BenchRecord]) -> Any:
    (evaluation,) = select_evaluations(records, suite="accuracy")
    return evaluation


def test_the_order_of_records_does_not_matter() -> None:
    records = [*study(), make_record("nf3-b3-g64", status=Status.CRASH, created_utc="2026-02-01T00:00:00Z")]
    shuffled = random.Random(0).sample(records, len(records))

    assert select_evaluations(shuffled, suite="accuracy") == select_evaluations(records, suite="accuracy")


def test_a_record_that_is_there_twice_is_one_and_no_older_one() -> None:
    records = study()

    assert select_evaluations([*records, *records], suite="accuracy") == select_evaluations(records, suite="accuracy")


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": make_inputs(model_sha256="d" * 64)},
        {"inputs": make_inputs(corpus_sha256="d" * 64)},
        {"inputs": make_inputs(tokenizer_sha256="d" * 64)},
        {"inputs": make_inputs(settings=(("window_tokens", 256),))},
        {"environment": make_environment(cpu_model="Another CPU")},
        {"environment": make_environment(device="cuda", gpu_name="NVIDIA H200")},
    ],
)
def test_records_that_differ_in_inputs_or_device_are_kept_apart(changes: dict[str, Any]) -> None:
    found = select_evaluations([make_record(), make_record(**changes)], suite="accuracy")

    assert [len(evaluation.records) for evaluation in found] == [1, 1]


def test_the_evaluation_measured_last_comes_first() -> None:
    older = make_record(created_utc="2026-01-01T00:00:00Z")
    newer = make_record(created_utc="2026-03-01T00:00:00Z", inputs=make_inputs(model_name="new", model_sha256="d" * 64))

    found = select_evaluations([older, newer], suite="accuracy")

    assert [evaluation.newest.inputs.model_name for evaluation in found] == ["new", "testbed"]


def test_of_several_complete_records_of_a_case_the_latest_is_shown_and_the_rest_counted() -> None:
    records = [make_record(created_utc=f"2026-01-0{day}T00:00:00Z", run_id=f"run-{day}") for day in (2, 3, 1)]

    evaluation = _only(records)

    assert [record.run_id for record in evaluation.records] == ["run-3"]
    assert evaluation.superseded == 2


def test_a_complete_record_is_shown_before_a_later_partial_one() -> None:
    whole = make_record(created_utc="2026-01-01T00:00:00Z")
    partial = make_record(created_utc="2026-01-02T00:00:00Z", complete=False)

    assert _only([whole, partial]).records == (whole,)


def test_records_of_the_same_second_are_told_apart_by_content() -> None:
    first, second = make_record(run_id="a"), make_record(run_id="b")

    assert _only([first, second]).records == _only([second, first]).records


def test_a_failure_after_a_result_is_listed_beside_it() -> None:
    whole = make_record(created_utc="2026-01-01T00:00:00Z")
    crash = make_record(created_utc="2026-01-02T00:00:00Z", status=Status.CRASH)

    evaluation = _only([whole, crash])

    assert evaluation.records == (whole,)
    assert evaluation.failures == (crash,)


def test_a_failure_that_was_mended_later_is_only_counted() -> None:
    crash = make_record(created_utc="2026-01-01T00:00:00Z", status=Status.CRASH)
    whole = make_record(created_utc="2026-01-02T00:00:00Z")

    evaluation = _only([crash, whole])

    assert evaluation.failures == ()
    assert evaluation.superseded == 1


def test_a_planned_case_without_a_record_is_named() -> None:
    record = make_record("a", planned_case_ids=("a", "vanished"))

    assert _only([record]).missing == ("vanished",)


def test_no_record_of_the_suite_is_an_error_with_the_remedy() -> None:
    with pytest.raises(RecordError, match="no record of suite 'accuracy'; run 'lords-bench bench' first"):
        select_evaluations([make_record(suite="latency")], suite="accuracy")


OTHER_RUN = {"environment": make_environment(source_sha256="6" * 64)}
DIRTY = {"environment": make_environment(git_dirty=True)}
OTHER_DIRTY_RUN = {"environment": make_environment(source_sha256="6" * 64, git_dirty=True)}
NO_COMMIT_OTHER_RUN = {"environment": make_environment(source_sha256="6" * 64, git_commit=None, git_dirty=None)}


@pytest.mark.parametrize(
    ("subject", "baseline", "refusal"),
    [
        ({}, {}, None),
        ({}, OTHER_RUN, None),
        (DIRTY, DIRTY, None),
        (OTHER_DIRTY_RUN, {}, None),
        ({}, OTHER_DIRTY_RUN, "lords comes from an uncommitted tree of another run"),
        ({}, NO_COMMIT_OTHER_RUN, "lords comes from an uncommitted tree of another run"),
        ({}, {"complete": False}, "lords is partial"),
        ({"complete": False}, {}, "lords is partial"),
        ({}, {"status": Status.CRASH}, "no samples"),
        ({}, {"samples": make_samples(layer_stored_bytes=(2304, 4608))}, "bits differ from lords"),
        ({}, {"samples": make_samples(window_tokens=(1, 2, 3))}, "their windows of text differ"),
        ({"samples": make_samples(window_kl_nats=(0.0,) * 3)}, {}, "lords has a KL that its weight error cannot give"),
        (
            {},
            {"samples": make_samples(layer_squared_norm=(100.0, 400.0))},
            "the norms of their layers' own weights differ",
        ),
    ],
)
def test_a_baseline_is_whole_of_known_source_and_equal_bits(
    subject: dict[str, Any], baseline: dict[str, Any], refusal: str | None
) -> None:
    assert comparison_refusal(make_record(**subject), make_record(**baseline)) == refusal


@pytest.mark.parametrize(("stored_bytes", "is_equal"), [(4352, True), (4372, True), (4373, False), (4331, False)])
def test_bits_are_equal_within_two_hundredths(stored_bytes: int, is_equal: bool) -> None:
    def record(size: int) -> BenchRecord:
        layer = {"layer_shapes": ((64, 128),), "layer_names": ("a",), "layer_stored_bytes": (size,)}
        errors = {"layer_squared_error": (1.0,), "layer_squared_norm": (9.0,)}
        return make_record(samples=make_samples(**layer, **errors))

    assert equal_bits(record(4352), record(stored_bytes)) is is_equal


def test_the_unquantized_model_of_a_run_without_layers_has_no_equal_bits() -> None:
    empty: tuple[()] = ()
    layers = ("layer_names", "layer_shapes", "layer_squared_error", "layer_squared_norm", "layer_stored_bytes")
    record = make_record(samples=make_samples(**dict.fromkeys(layers, empty)))

    assert not equal_bits(record, record)


def test_a_changed_copy_differs_only_where_it_was_changed() -> None:
    assert changed(make_record(), seed=3).case_id == make_record().case_id
