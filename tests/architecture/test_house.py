"""docs/house.md draws the house as it is, and the drawing leaves no way out."""

from graphlib import CycleError

import pytest

from architecture.house import PAGE, drawn, floors_of, map_lines, rooms_of
from architecture.import_map import PACKAGE, ROOT, import_map

ROOMS = {
    "base": frozenset[str](),
    "middle": frozenset({"base"}),
    "top": frozenset({"base", "middle"}),
}


def test_the_map_in_the_docs_is_that_of_the_imports() -> None:
    lines = map_lines(rooms_of(import_map(ROOT / PACKAGE)))

    assert "\n".join(lines) in PAGE.read_text("utf-8"), "run: python tests/architecture/house.py"


def test_an_arrow_that_a_longer_way_replaces_is_not_drawn() -> None:
    assert drawn(ROOMS) == {"base": frozenset(), "middle": {"base"}, "top": {"middle"}}


def test_a_floor_is_the_longest_way_down() -> None:
    assert floors_of(ROOMS) == {"base": 0, "middle": 1, "top": 2}


def test_rooms_that_import_each_other_have_no_floor() -> None:
    with pytest.raises(CycleError):
        floors_of({"one": frozenset({"two"}), "two": frozenset({"one"})})


def test_imports_between_modules_are_arrows_between_rooms_without_the_ground() -> None:
    graph = {
        "lords_bench.stats.bootstrap": frozenset({"lords_bench.errors", "lords_bench.records.status", "numpy"}),
        "lords_bench.records.status": frozenset({"lords_bench.records.codec"}),
        "lords_bench.errors": frozenset[str](),
    }

    assert rooms_of(graph) == {"stats": {"records"}, "records": frozenset()}
