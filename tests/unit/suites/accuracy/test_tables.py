"""Groups of equal bits: who stands in which, and who stands apart."""

import pytest

from lords_bench.records import BenchRecord
from lords_bench.stats import PairedVerdict
from lords_bench.suites.accuracy.judge import BitsGroup, bits_groups, select_evaluations, unquantized_row
from record_builders import changed, make_environment, study


def _groups(records: list[BenchRecord]) -> tuple[BitsGroup, ...]:
    return bits_groups(select_evaluations(records, suite="accuracy")[0])


def _methods(group: BitsGroup) -> list[str]:
    return [row.record.method for row in group.rows]


@pytest.fixture(scope="module")
def groups() -> tuple[BitsGroup, ...]:
    return _groups(study())


def test_groups_run_from_many_bits_to_few_with_the_comparable_one_first(groups: tuple[BitsGroup, ...]) -> None:
    assert [(group.bits, group.is_comparable) for group in groups] == [
        (4, True),
        (4, False),
        (3, True),
        (3, False),
        (2, True),
        (2, False),
    ]


def test_what_stores_other_bits_stands_apart(groups: tuple[BitsGroup, ...]) -> None:
    assert sorted(_methods(groups[1])) == ["int-rtn", "nf4-double-quant"]
    assert "int-rtn" not in _methods(groups[0])


def test_mixed_precision_joins_the_group_of_its_measured_bits(groups: tuple[BitsGroup, ...]) -> None:
    assert "nf4+nf2" in _methods(groups[2])


def test_rows_of_a_group_run_from_low_kl_to_high(groups: tuple[BitsGroup, ...]) -> None:
    for group in groups:
        assert [row.kl for row in group.rows] == sorted(row.kl for row in group.rows)


def test_cases_that_stand_apart_are_compared_with_nothing(groups: tuple[BitsGroup, ...]) -> None:
    assert groups[1].compare("int-rtn", "nf4-double-quant") is None


def test_a_comparison_finds_a_made_up_effect(groups: tuple[BitsGroup, ...]) -> None:
    comparison = groups[4].compare("lords", "nf")

    assert comparison is not None
    assert comparison.baseline.method == "nf2"
    assert comparison.outcome("kl") is PairedVerdict.BETTER
    assert comparison.outcome("weight_error") is PairedVerdict.BETTER


def test_without_a_normal_float_case_others_of_equal_bits_anchor_each_other() -> None:
    records = [record for record in study() if record.method in ("lords", "block-opt", "int-rtn")]

    groups = _groups(records)

    assert [(group.bits, sorted(_methods(group))) for group in groups if group.is_comparable] == [
        (4, ["block-opt", "lords"]),
        (3, ["block-opt", "lords"]),
        (2, ["block-opt", "lords"]),
    ]


def test_a_partial_case_comes_last_even_with_the_lowest_kl() -> None:
    records = [changed(r, complete=r.case_id != "lords-gptq-b3-g64") for r in study()]

    group = next(group for group in _groups(records) if group.bits == 3)

    assert group.rows[-1].record.method == "lords-gptq"
    assert group.rows[-1].marks == ("partial",)


@pytest.mark.parametrize(("dirty", "mark"), [(True, "uncommitted code"), (None, "unknown commit")])
def test_rows_of_uncommitted_or_unknown_code_are_marked(dirty: bool | None, mark: str) -> None:
    records = study(environment=make_environment(git_dirty=dirty))

    assert {row.marks for group in _groups(records) for row in group.rows} == {(mark,)}


def test_the_unquantized_model_is_found_and_in_no_group(groups: tuple[BitsGroup, ...]) -> None:
    evaluation = select_evaluations(study(), suite="accuracy")[0]

    row = unquantized_row(evaluation)

    assert row is not None
    assert row.record.case_id == "unquantized"
    assert all("unquantized" not in _methods(group) for group in groups)
