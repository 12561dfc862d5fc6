"""Check and cost records: what they refuse, and what a run that goes on takes for done."""

from dataclasses import replace
from typing import Any

import pytest

from cost_builders import make_check, make_cost_run, make_ptq, make_step
from lords_bench.errors import RecordError
from lords_bench.records.check import check_key, checked
from lords_bench.records.codec import decode_noun, encode_line
from lords_bench.records.cost import completed_cases, cost_key
from lords_bench.records.status import Status
from record_builders import make_environment


@pytest.mark.parametrize("record", [make_check(), make_ptq(), make_step("lords", 10.0)], ids=["check", "ptq", "step"])
def test_a_record_comes_back_equal_from_its_line(record: Any) -> None:
    assert decode_noun(encode_line(record), type(record)) == record


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_check(tool="valgrind"), "'valgrind'; it must be one of float64, memcheck, racecheck"),
        (lambda: make_check(worst=1.5), "worst error is 1.5"),
        (lambda: make_check(status=Status.INCORRECT), "a reason belongs to every other than ok"),
        (lambda: make_check(reason="why"), "a reason belongs to every other than ok"),
        (lambda: make_check(status=Status.CRASH, reason="one\ntwo"), "must be one line"),
        (lambda: make_check(created_utc="today"), "created_utc is 'today'"),
        (lambda: make_ptq(suite="qat"), "'qat'; it must be one of ptq, step"),
        (lambda: make_ptq(seconds=None), "a time belongs to status ok and only to it"),
        (lambda: make_ptq(seconds=float("nan")), "took nan s"),
        (lambda: make_ptq(status=Status.CRASH, seconds=None), "a reason belongs"),
        (lambda: make_ptq(facts=(("b", 1), ("a", 2))), "must be sorted by name"),
        (lambda: make_ptq(created_utc="today"), "created_utc is 'today'"),
        (lambda: make_cost_run(scale=0), "scale is 0"),
        (lambda: make_cost_run(settings=(("b", 1), ("a", 2))), "must be sorted by name"),
    ],
)
def test_contradictions_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make()


def test_what_is_right_or_refused_by_the_kernel_is_not_checked_again_and_all_else_is() -> None:
    records = (
        make_check(case="right"),
        make_check(case="refused", status=Status.UNSUPPORTED, reason="no", worst=None),
        make_check(case="wrong", status=Status.INCORRECT, reason="no", worst=2.0),
        make_check(case="no tool", tool="memcheck", status=Status.UNSUPPORTED, reason="no", worst=None),
        make_check(case="other source", environment=make_environment(source_sha256="6" * 64)),
    )

    assert checked(records, check_key(records[0].environment)) == {
        ("float64", "scale_tile", "right"), ("float64", "scale_tile", "refused")
    }  # fmt: skip


def test_a_layer_is_done_only_for_its_own_settings_and_source() -> None:
    run = make_cost_run()
    other = replace(run, settings=(("bits", 3), ("blocks", None)))
    records = (
        make_ptq("a"),
        make_ptq("b", status=Status.OUT_OF_MEMORY, seconds=None, reason="no memory"),
        make_ptq("c", run=other),
        make_ptq("d", run=replace(run, run_id="earlier")),
    )

    assert completed_cases(records, cost_key("ptq", run)) == {"a", "d"}
