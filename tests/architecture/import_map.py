"""Reads which module of the project imports which, without importing any of them.

Every import statement counts: those inside functions and under TYPE_CHECKING as well, because what a module knows
about is what matters, not when it loads it.
"""

import ast
import os
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "lords_bench"
ROOT = Path(__file__).resolve().parents[2]


def module_files(package: Path) -> dict[str, Path]:
    """Module name to file, for every Python file below the package folder; linked folders are walked too."""
    files = {}
    for folder, _, names in os.walk(package, followlinks=True):
        for name in names:
            path = Path(folder, name)
            if path.suffix == ".py":
                parts = [package.name, *path.relative_to(package).with_suffix("").parts]
                files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports_of(module: str, source: str, *, is_package: bool, known: frozenset[str]) -> Iterator[str]:
    """Full names of what a module's source imports; `from a import b` gives `a.b` where that is a known module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
                base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base


def import_map(package: Path) -> dict[str, frozenset[str]]:
    """Module name to the names it imports, of this package and of others alike."""
    files = module_files(package)
    known = frozenset(files)
    return {
        module: frozenset(
            imports_of(module, path.read_text("utf-8"), is_package=path.name == "__init__.py", known=known)
        )
        for module, path in files.items()
    }


def part_of(module: str) -> str:
    """The part that a module belongs to: the folder or file directly below the package, or the package itself."""
    return module.partition(".")[2].partition(".")[0] or PACKAGE


def cycle_in(graph: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """One cycle of the graph as a path that ends where it begins, or an empty tuple."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()
