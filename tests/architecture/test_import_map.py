"""Imports point one way. The tables below are the map; a new folder or file at the top needs a line here."""

from collections.abc import Mapping

import pytest

from architecture.import_map import PACKAGE, ROOT, cycle_in, import_map, imports_of, part_of

# From the ground up: a part may import what stands before it, and its own modules.
ORDER = (
    "version",
    "errors",
    "files",
    "locks",
    "text",
    "markdown",
    "terminal",
    "strict_json",
    "json_object",
    "requirements",
    "emulator",
    "spec",
    "records",
    "isolate",
    "stats",
    "reference",
    "kernels",
    "prepared",
    "kernel_registry",
    "kernel_check",
    "timing",
    "static",
    "tuning",
    "route",
    "blockwise_product",
    "ops",
    "integrations",
    "training",
    PACKAGE,  # its public names
    "suites",
    "reporting",
    "gate",
    "runner",
    "progress",
    "sanitizer",
    "profile_cli",
    "kernel_cli",
    "explain_cli",
    "tuning_progress",
    "tuning_cli",
    "gate_cli",
    "visit",
    "visit_cli",
    "cli",
    "__main__",
)

# Rebuilding a report or judging a change must work on any machine, from records alone.
READ_ONLY_PARTS = ("reporting", "gate")
READ_ONLY_MAY_IMPORT = frozenset({"errors", "files", "text", "markdown", "spec", "records", "stats"})

# A part, and what it must stay free of.
FOREIGN = {
    "reference": ("triton", "transformers", "matplotlib", "lm_eval", "datasets"),
    "stats": ("torch", "triton", "transformers"),
    "reporting": ("torch", "triton", "transformers"),
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


# The guards can fail.


def test_a_back_edge_is_found() -> None:
    graph = {"lords_bench.spec.quant": frozenset({"lords_bench.reference.methods"})}

    assert back_edges(graph) == ["lords_bench.spec.quant imports lords_bench.reference.methods"]


def test_a_report_that_imports_the_suites_is_found() -> None:
    graph = {"lords_bench.reporting.page": frozenset({"lords_bench.suites.accuracy"})}

    assert back_edges(graph) == ["lords_bench.reporting.page imports lords_bench.suites.accuracy"]


def test_a_cycle_within_one_part_is_found() -> None:
    graph = {
        "lords_bench.spec.quant": frozenset({"lords_bench.spec.codebook"}),
        "lords_bench.spec.codebook": frozenset({"lords_bench.spec.quant"}),
    }

    assert set(cycle_in(internal(graph))) == {"lords_bench.spec.quant", "lords_bench.spec.codebook"}


def test_a_foreign_import_is_found() -> None:
    graph = {"lords_bench.reference.blocks": frozenset({"triton.language", "torch"})}

    assert foreign_imports(graph) == ["lords_bench.reference.blocks imports triton.language"]


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import torch.nn", "torch.nn"),
        ("from lords_bench.spec import quant", "lords_bench.spec.quant"),
        ("from lords_bench.spec import QuantSpec", "lords_bench.spec"),
        ("def f():\n    from lords_bench.spec import quant", "lords_bench.spec.quant"),
        ("if TYPE_CHECKING:\n    import lords_bench.spec.quant", "lords_bench.spec.quant"),
        ("from .quant import QuantSpec", "lords_bench.spec.quant"),
        ("from . import quant", "lords_bench.spec.quant"),
        ("from ..errors import SpecError", "lords_bench.errors"),
    ],
)
def test_every_form_of_import_is_read(source: str, imported: str) -> None:
    known = frozenset({"lords_bench.spec", "lords_bench.spec.quant", "lords_bench.errors"})

    assert list(imports_of("lords_bench.spec.shapes", source, is_package=False, known=known)) == [imported]


def test_a_relative_import_of_a_package_starts_at_the_package() -> None:
    known = frozenset({"lords_bench.spec.quant"})

    names = imports_of("lords_bench.spec", "from .quant import QuantSpec", is_package=True, known=known)

    assert list(names) == ["lords_bench.spec.quant"]
