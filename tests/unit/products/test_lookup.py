"""Which entry serves a problem: exact before nearest, a route before a kernel, the formula where nothing holds."""

from dataclasses import replace

import pytest

from lords_bench.products.lookup import Entries, Found, choose, closest
from lords_bench.records.tuned import ROUTE, Choice, TunedKey
from tuned_builders import KEY, MACHINE, make_entry, make_key

FORMULA = Choice(kernel="scale_tile")


def ask(entries: Entries, key: TunedKey = KEY, *, refused: str = "") -> Found:
    return choose(
        entries, FORMULA, key_of=lambda kernel: replace(key, kernel=kernel), takes=lambda kernel: kernel != refused
    )


def test_without_entries_the_formula_serves() -> None:
    assert ask(Entries([])) == Found(choice=FORMULA, origin="formula")


def test_the_later_entry_with_the_same_key_holds() -> None:
    later = make_entry(measured_on="2026-11-23")

    assert ask(Entries([make_entry(), later])).entry == later


def test_another_driver_is_served_as_the_nearest_and_the_difference_is_named() -> None:
    found = ask(Entries([make_entry()]), replace(KEY, machine=replace(MACHINE, driver="575.2")))

    assert found.origin == "nearest"
    assert list(map(str, found.differences)) == ["driver 570.1 → 575.2"]


@pytest.mark.parametrize("capability", [(8, 9), (9, 1)])
def test_another_architecture_is_served_by_the_formula(capability: tuple[int, int]) -> None:
    assert ask(Entries([make_entry()]), make_key(machine=replace(MACHINE, capability=capability))).origin == "formula"


def test_a_kernel_that_changed_since_is_served_by_the_formula() -> None:
    assert ask(Entries([make_entry()]), make_key(source="cd" * 32)).origin == "formula"


def test_a_bucket_between_tuned_ones_is_served_by_the_formula() -> None:
    entries = Entries([make_entry(key=make_key(m_bucket=bucket)) for bucket in (1, 4)])

    assert ask(entries, make_key(m_bucket=2)).origin == "formula"


def test_the_nearest_shape_within_the_tuned_ones_serves() -> None:
    small, large = (make_entry(key=make_key(n=n, k=n)) for n in (1024, 8192))

    assert ask(Entries([small, large]), make_key(n=2048, k=1024)).entry == small
    assert ask(Entries([small, large]), make_key(n=8192, k=7168)).entry == large


def test_the_same_gpu_comes_before_a_similar_one() -> None:
    other = make_entry(key=make_key(machine=replace(MACHINE, gpu="Another", driver="575.2")))
    same = make_entry()

    found = ask(Entries([other, same]), make_key(machine=replace(MACHINE, driver="575.2")))

    assert found.entry == same


def test_a_route_decides_before_the_formulas_kernel() -> None:
    route = make_entry(key=make_key(kernel=ROUTE), choice=Choice(kernel="rank_expanded"), default=FORMULA)

    assert ask(Entries([make_entry(), route])).choice == Choice(kernel="rank_expanded")


def test_a_route_to_a_kernel_that_refuses_the_weight_is_passed_over() -> None:
    route = make_entry(key=make_key(kernel=ROUTE), choice=Choice(kernel="rank_expanded"), default=FORMULA)

    found = ask(Entries([make_entry(), route]), refused="rank_expanded")

    assert found.entry == make_entry()


def test_the_closest_entry_differs_in_the_fewest_fields() -> None:
    one, many = make_key(bits=3), make_key(bits=3, n=1024, m_bucket=8)

    found = closest(Entries([make_entry(key=many), make_entry(key=one)]), KEY)

    assert found is not None
    assert found.key == one
    assert closest(Entries([]), KEY) is None
