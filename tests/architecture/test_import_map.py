"""Imports point one way. The tables below are the map; a new folder or file at the top needs a line here."""

from collections.abc import Mapping

import pytest

from architecture.import_map import PACKAGE, ROOT, cycle_in, import_map, imports_of, part_of

# From the ground up: a part may import what stands before it, and its own modules.
ORDER = (
    "version",
    "source",
    "errors",
    "locks",
    "files",
    "text",
    "markdown",
    "terminal",
    "strict_json",
    "json_object",
    "requirements",
    "emulator",
    "options",
    "quant",
    "records",
    "isolate",
    "stats",
    "reference",
    "kernels",
    "products",
    "kernel_check",
    "timing",
    "static",
    "tuning",
    "integrations",
    "training",
    PACKAGE,  # its public names
    "report",
    "gate",
    "suites",
    "sanitizer",
    "visit",
    "cli",
    "__main__",
)

# Rebuilding a report or judging a change must work on any machine, from records alone.
READ_ONLY_PARTS = ("report", "gate")
READ_ONLY_MAY_IMPORT = frozenset({"errors", "files", "text", "markdown", "quant", "records", "stats"})

# Folders of suites/. What two suites share stands directly in suites/, or is of a kind that each may use.
SUITES = ("accuracy", "latency", "lifecycle", "cost")
SHARED = ("baselines", "testbed")
STUDIES = "studies"
# A suite's modules that make its page of its records.
PAGES = ("page", "judge", "figures", "metrics", "export")
PAGES_MAY_IMPORT = READ_ONLY_MAY_IMPORT | {"report"}

# A part, and what it must stay free of.
FOREIGN = {
    "reference": ("triton", "transformers", "matplotlib", "lm_eval", "datasets"),
    "stats": ("torch", "triton", "transformers"),
    "report": ("torch", "triton", "transformers"),
    "gate": ("torch", "triton", "transformers"),
}

Graph = Mapping[str, frozenset[str]]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return import_map(ROOT / PACKAGE)


def internal(graph: Graph) -> dict[str, frozenset[str]]:
    return {
        module: frozenset(name for name in names if name.split(".")[0] == PACKAGE) for module, names in graph.items()
    }


def back_edges(graph: Graph) -> list[str]:
    found = []
    for module, names in internal(graph).items():
        part = part_of(module)
        for name in names:
            other = part_of(name)
            if other == part:
                continue
            backwards = ORDER.index(other) > ORDER.index(part)
            forbidden = part in READ_ONLY_PARTS and other not in READ_ONLY_MAY_IMPORT
            if backwards or forbidden:
                found.append(f"{module} imports {name}")
    return sorted(found)


def foreign_imports(graph: Graph) -> list[str]:
    return sorted(
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in names
        if name.split(".")[0] in FOREIGN.get(part_of(module), ())
    )


def suite_of(module: str) -> str | None:
    """The folder of suites/ that a module is in, '' for what stands directly there; None outside."""
    names = module.split(".")[1:]
    if names[:1] != ["suites"]:
        return None
    return names[1] if names[1:] and names[1] in {*SUITES, *SHARED, STUDIES} else ""


def suites_that_know_others(graph: Graph) -> list[str]:
    may = {suite: {suite, *SHARED, ""} for suite in SUITES} | {STUDIES: {*SUITES, *SHARED, STUDIES, ""}}
    may |= {shared: {*SHARED, ""} for shared in SHARED}
    return sorted(
        f"{module} imports {name}"
        for module, names in internal(graph).items()
        for name in names
        if (other := suite_of(name)) is not None
        and other not in may.get(suite_of(module) or "", {*SUITES, *SHARED, ""})
    )


def pages_that_need_more_than_records(graph: Graph) -> list[str]:
    def is_of_page(module: str) -> bool:
        return suite_of(module) in SUITES and module.rpartition(".")[2] in PAGES

    return sorted(
        f"{module} imports {name}"
        for module, names in internal(graph).items()
        for name in names
        if is_of_page(module) and part_of(name) not in PAGES_MAY_IMPORT and not is_of_page(name)
    )


def test_every_part_has_its_place_in_the_order(graph: Graph) -> None:
    assert sorted({part_of(module) for module in graph} - set(ORDER)) == []


def test_imports_point_one_way(graph: Graph) -> None:
    assert back_edges(graph) == []


def test_no_module_imports_itself_through_others(graph: Graph) -> None:
    assert cycle_in(internal(graph)) == ()


def test_parts_stay_free_of_what_they_must_not_need(graph: Graph) -> None:
    assert foreign_imports(graph) == []


def test_the_map_sees_the_linked_folders(graph: Graph) -> None:
    assert "lords_bench.reference.codebooks" in graph
    assert "torch" in graph["lords_bench.reference.codebooks"]
    assert "lords_bench.suites.testbed.corpus" in graph


def test_a_suite_imports_no_other_suite(graph: Graph) -> None:
    folders = {path.name for path in (ROOT / "suites").iterdir() if path.is_dir() and not path.name.startswith("_")}

    assert folders == {*SUITES, *SHARED, STUDIES}
    assert suites_that_know_others(graph) == []


def test_the_page_of_a_suite_is_made_of_records_alone(graph: Graph) -> None:
    assert pages_that_need_more_than_records(graph) == []


# The guards can fail.


def test_a_back_edge_is_found() -> None:
    graph = {"lords_bench.records.store": frozenset({"lords_bench.reference.methods"})}

    assert back_edges(graph) == ["lords_bench.records.store imports lords_bench.reference.methods"]


def test_a_report_that_imports_the_suites_is_found() -> None:
    graph = {"lords_bench.report.history": frozenset({"lords_bench.suites.accuracy.page"})}

    assert back_edges(graph) == ["lords_bench.report.history imports lords_bench.suites.accuracy.page"]


def test_a_cycle_within_one_part_is_found() -> None:
    graph = {
        "lords_bench.records.store": frozenset({"lords_bench.records.codec"}),
        "lords_bench.records.codec": frozenset({"lords_bench.records.store"}),
    }

    assert set(cycle_in(internal(graph))) == {"lords_bench.records.store", "lords_bench.records.codec"}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("suites.latency.run", "suites.accuracy.run"),
        ("suites.baselines.own", "suites.latency.cases"),
        ("suites.cost.ptq", "suites.studies.ptq_speed"),
        ("suites.pages", "suites.studies.regret_plot"),
        ("cli.bench.cost", "suites.studies.ptq_speed"),
    ],
)
def test_a_suite_that_knows_another_is_found(module: str, name: str) -> None:
    graph = {f"lords_bench.{module}": frozenset({f"lords_bench.{name}", "lords_bench.suites.passages"})}

    assert suites_that_know_others(graph) == [f"lords_bench.{module} imports lords_bench.{name}"]


def test_a_page_that_needs_what_measures_is_found() -> None:
    page, measured = "lords_bench.suites.cost.page", "lords_bench.suites.cost.ptq"
    graph = {page: frozenset({measured, "lords_bench.report.svg"})}

    assert pages_that_need_more_than_records(graph) == [f"{page} imports {measured}"]


def test_a_foreign_import_is_found() -> None:
    graph = {"lords_bench.reference.blocks": frozenset({"triton.language", "torch"})}

    assert foreign_imports(graph) == ["lords_bench.reference.blocks imports triton.language"]


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import torch.nn", "torch.nn"),
        ("from lords_bench.records import store", "lords_bench.records.store"),
        ("from lords_bench.records import RecordStore", "lords_bench.records"),
        ("def f():\n    from lords_bench.records import store", "lords_bench.records.store"),
        ("if TYPE_CHECKING:\n    import lords_bench.records.store", "lords_bench.records.store"),
        ("from .store import RecordStore", "lords_bench.records.store"),
        ("from . import store", "lords_bench.records.store"),
        ("from ..errors import SpecError", "lords_bench.errors"),
    ],
)
def test_every_form_of_import_is_read(source: str, imported: str) -> None:
    known = frozenset({"lords_bench.records", "lords_bench.records.store", "lords_bench.errors"})

    assert list(imports_of("lords_bench.records.lines", source, is_package=False, known=known)) == [imported]


def test_a_relative_import_of_a_package_starts_at_the_package() -> None:
    known = frozenset({"lords_bench.records.store"})

    names = imports_of("lords_bench.records", "from .store import RecordStore", is_package=True, known=known)

    assert list(names) == ["lords_bench.records.store"]
