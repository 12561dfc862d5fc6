from typing import Any

import pytest

from lifecycle_builders import make_run, make_scores, make_training
from lords_bench.errors import RecordError
from lords_bench.records import LifecycleRecord, Status
from lords_bench.records.codec import decode_line, decode_noun, encode_line


def test_a_line_gives_the_same_record_back() -> None:
    record = make_run()

    assert decode_noun(encode_line(record), LifecycleRecord) == record


def test_an_accuracy_reader_refuses_a_lifecycle_line() -> None:
    with pytest.raises(RecordError, match="does not belong into a file of BenchRecord"):
        decode_line(encode_line(make_run()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": None}, "samples belong to status ok"),
        ({"status": Status.INCORRECT, "reason": "two\nlines"}, "must be one line"),
        ({"learning_rate": None}, "'qat' with 1000 trainable numbers"),
        ({"learning_rate": float("nan")}, "must be positive and finite"),
        ({"stage": "reference"}, "stage 'reference' with bits 3"),
        ({"bits": None}, "bits is None"),
        ({"planned_case_ids": ()}, "not among its run's planned_case_ids"),
        ({"created_utc": "yesterday"}, "created_utc is 'yesterday'"),
        ({"samples": make_training(trainable_numbers=0, step_loss_nats=(), step_wall_ns=(), step_cpu_ns=())}, "with 0"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make_run(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_stored_bytes": (1,)}, "different lengths"),
        ({"step_cpu_ns": (1,)}, "one loss and one time"),
        ({"trainable_numbers": 0}, "training needs both"),
        ({"scores": ()}, "at least one"),
        ({"scores": (make_scores(), make_scores())}, "each domain and split once"),
        ({"step_loss_nats": (1.0, float("nan"))}, r"step_loss_nats\[1\] is nan"),
    ],
)
def test_samples_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make_training(**changes)


def test_scores_without_a_window_are_refused() -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("window_tokens", "window_bytes", "window_nll_nats", "window_documents"), ()
    )

    with pytest.raises(RecordError, match="one of each per window"):
        make_scores(**nothing)


def test_bits_per_byte_is_the_sum_of_likelihoods_over_the_sum_of_bytes() -> None:
    scores = make_scores(window_nll_nats=(0.6931471805599453 * 300, 0.6931471805599453 * 450, 0.0))

    assert scores.bits_per_byte == pytest.approx(1.0)


def test_bits_per_weight_counts_all_stored_bytes() -> None:
    assert make_training().bits_per_weight == pytest.approx(4.25)


def test_records_of_another_budget_are_not_compared() -> None:
    inputs = make_run().inputs
    other = type(inputs)(
        model_name=inputs.model_name,
        model_sha256=inputs.model_sha256,
        tokenizer_sha256=inputs.tokenizer_sha256,
        corpus_sha256=inputs.corpus_sha256,
        settings=(("steps", 7),),
    )

    assert make_run(inputs=other).comparison_key != make_run().comparison_key
    assert make_run(inputs=other).run_key != make_run().run_key
