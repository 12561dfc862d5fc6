"""A latency record cannot contradict itself, survives its line, and tells which comparisons are complete."""

from typing import Any

import pytest

from latency_builders import make_case, make_latency, make_measurement, make_run
from lords_bench.errors import RecordError
from lords_bench.records.codec import decode_line, decode_noun, encode_line
from lords_bench.records.latency import LatencyRecord, completed_comparisons
from lords_bench.records.status import Status
from record_builders import make_environment, make_record

TRIO = ("lords", "dense", "dense-again")


def trio(**changes: Any) -> list[LatencyRecord]:
    return [make_latency(method, **changes) for method in TRIO]


def test_a_record_survives_its_line() -> None:
    record = make_latency(config=(("block_n", 64), ("last_sums", True)), notes=("the clock moved",))

    assert decode_noun(encode_line(record), LatencyRecord) == record


def test_an_accuracy_record_is_refused_in_a_latency_file() -> None:
    with pytest.raises(RecordError, match="does not belong into a file of LatencyRecord lines"):
        decode_noun(encode_line(make_record()), LatencyRecord)
    with pytest.raises(RecordError, match="does not belong into a file of BenchRecord lines"):
        decode_line(encode_line(make_latency()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": Status.CRASH, "measurement": make_measurement()}, "a measurement belongs to status ok"),
        ({"measurement": None}, "a measurement belongs to status ok"),
        ({"reason": "why"}, "a reason belongs to every other than ok"),
        ({"status": Status.CRASH, "reason": "two\nlines"}, "must be one line"),
        ({"regime": "hot"}, "the measurement is of regime 'cold'"),
        ({"method": "gemlite"}, "method is not among its comparison's methods"),
        ({"worst_error": 1.5}, "above its bound the status is incorrect"),
        ({"created_utc": "yesterday"}, "write it as 2026-01-31T12:00:00Z"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make_latency(**changes)


def test_a_run_keeps_its_facts_and_libraries_sorted() -> None:
    with pytest.raises(RecordError, match=r"facts .* must be sorted by name"):
        make_run(facts=(("power_limit_w", 700), ("driver", "570.1")))
    with pytest.raises(RecordError, match="planned_comparisons is 0"):
        make_run(planned_comparisons=0)


def test_a_comparison_is_complete_when_every_method_has_a_record() -> None:
    records = trio()
    done = ("llama-3-8b/o_proj-m16-b4-g64", "cold")

    assert completed_comparisons(records, make_run().run_key) == {done}
    assert completed_comparisons(records[:-1], make_run().run_key) == frozenset()


@pytest.mark.parametrize("status", [Status.TIMEOUT, Status.OUT_OF_MEMORY])
def test_what_may_go_better_next_time_is_tried_again(status: Status) -> None:
    records = [*trio()[:-1], make_latency("dense-again", status=status)]

    assert completed_comparisons(records, make_run().run_key) == frozenset()


def test_a_comparison_without_the_dense_product_is_made_again_unless_it_brought_the_device_down() -> None:
    failed = make_latency("dense", status=Status.LAUNCH_ERROR)
    rest = [record for record in trio() if record.method != "dense"]
    crashed = [make_latency(status=Status.CRASH), failed, rest[1]]

    assert completed_comparisons([*rest, failed], make_run().run_key) == frozenset()
    assert len(completed_comparisons(crashed, make_run().run_key)) == 1


def test_what_a_method_cannot_do_is_not_tried_again() -> None:
    records = [make_latency(status=Status.UNSUPPORTED), *trio()[1:]]

    assert completed_comparisons(records, make_run().run_key)


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "full"},
        {"dtype": "float16"},
        {"seed": 1},
        {"tables_sha256": "1" * 64},
        {"libraries": (("bitsandbytes", None), ("gemlite", None), ("peft", None))},
        {"is_fake": True},
        {"environment": make_environment(device="cuda", gpu_name="Another GPU")},
    ],
)
def test_another_run_s_comparisons_do_not_count_as_done(changes: dict[str, Any]) -> None:
    assert completed_comparisons(trio(), make_run(**changes).run_key) == frozenset()


def test_a_larger_set_of_cases_goes_on_from_a_smaller_one() -> None:
    assert make_run(size="full", planned_comparisons=99).run_key == make_run().run_key


def test_only_a_real_clean_record_may_be_a_baseline() -> None:
    dirty = make_environment(device="cuda", gpu_name="Example GPU", git_dirty=True)

    assert make_latency().is_clean
    assert not make_latency(run=make_run(is_fake=True)).is_clean
    assert not make_latency(run=make_run(environment=dirty)).is_clean
    assert not make_latency(status=Status.INCORRECT).is_clean


def test_the_rank_of_a_case_is_at_parity_with_its_block() -> None:
    assert make_case().rank == 32
    assert make_case(block=128).rank == 16
