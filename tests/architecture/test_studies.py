"""A study is run by hand and rarely, and mypy reads the package alone: that its imports still exist is tested here."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from architecture.import_map import PACKAGE, ROOT

STUDIES = sorted((ROOT / "benchmarks").glob("*.py"))


def missing_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == PACKAGE:
            for alias in node.names:
                try:
                    found = hasattr(import_module(node.module), alias.name)
                    _ = found or import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    yield f"{node.module}.{alias.name}"


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_a_study_imports_only_what_there_is(study: Path) -> None:
    assert [*missing_names(study.read_text("utf-8"))] == []


def test_a_name_that_is_gone_is_found() -> None:
    source = "def f():\n    from lords_bench.errors import UsageError, NoError\n    from lords_bench.gone import g\n"

    assert [*missing_names(source)] == ["lords_bench.errors.NoError", "lords_bench.gone.g"]
