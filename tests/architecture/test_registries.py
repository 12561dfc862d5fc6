"""Registries are literal mappings: what exists can be read where it is listed, and nothing adds to it elsewhere."""

import ast
from collections.abc import Iterator

import pytest

from architecture.import_map import PACKAGE, ROOT, module_files

MUTATORS = frozenset({"update", "setdefault", "pop", "popitem", "clear", "append", "extend", "add", "insert", "remove"})
DISCOVERY = frozenset({"entry_points", "iter_modules", "walk_packages", "__subclasses__"})


def mutations(tree: ast.AST) -> Iterator[str]:
    """Statements that change a constant, which is a name in capitals, after it was defined."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = [target.value for target in node.targets if isinstance(target, ast.Subscript)]
        elif isinstance(node, ast.AugAssign):
            targets = [node.target.value if isinstance(node.target, ast.Subscript) else node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            targets = [node.func.value]
        for target in targets:
            name = (
                target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
            )
            if name.strip("_").isupper() and len(name.strip("_")) > 1:
                yield ast.unparse(node)


def discoveries(tree: ast.AST) -> Iterator[str]:
    """Calls that look for modules, plug-ins or subclasses instead of naming them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in DISCOVERY:
                yield ast.unparse(node)


def computed_mappings(tree: ast.Module) -> Iterator[str]:
    """Read-only mappings at module level that are neither written out nor a view of one constant of the module."""
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if not (isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] == "MappingProxyType"):
            continue
        entries = value.args[0]
        written_out = isinstance(entries, ast.Dict) and None not in entries.keys
        view = isinstance(entries, ast.DictComp) and ast.unparse(entries.generators[0].iter).split(".")[0].isupper()
        if not (written_out or view):
            yield ast.unparse(node)


def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text("utf-8")) for name, path in module_files(ROOT / PACKAGE).items()}


def test_no_constant_is_changed_after_its_definition() -> None:
    assert {name: found for name, tree in trees().items() if (found := list(mutations(tree)))} == {}


def test_nothing_is_discovered() -> None:
    assert {name: found for name, tree in trees().items() if (found := list(discoveries(tree)))} == {}


def test_every_read_only_mapping_is_written_out() -> None:
    assert {name: found for name, tree in trees().items() if (found := list(computed_mappings(tree)))} == {}


# The guards can fail.


@pytest.mark.parametrize(
    "source",
    [
        "METHODS['mine'] = quantize_mine",
        "def register(name, f):\n    catalog.METHODS[name] = f",
        "METHODS.update(mine=1)",
        "SUITES.append(mine)",
        "del _METHODS['nf4']",
        "METHODS |= {'mine': 1}",
    ],
)
def test_a_change_of_a_constant_is_found(source: str) -> None:
    assert len(list(mutations(ast.parse(source)))) == 1


@pytest.mark.parametrize("source", ["b_NR[0] = 1", "rows.append(1)", "S[0] = 1", "METHODS = {}", "METHODS.get('nf4')"])
def test_other_changes_are_left_alone(source: str) -> None:
    assert list(mutations(ast.parse(source))) == []


@pytest.mark.parametrize("source", ["pkgutil.iter_modules(path)", "metadata.entry_points()", "Base.__subclasses__()"])
def test_a_discovery_is_found(source: str) -> None:
    assert len(list(discoveries(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "A = MappingProxyType({n: f(n) for n in names()})",
        "A: MappingProxyType[str, int] = types.MappingProxyType({**B})",
        "A = MappingProxyType(dict(zip(a, b)))",
    ],
)
def test_a_computed_mapping_is_found(source: str) -> None:
    assert len(list(computed_mappings(ast.parse(source)))) == 1


def test_a_view_of_a_constant_is_no_computed_mapping() -> None:
    source = (
        "A = MappingProxyType({m.name: m for m in METRICS})\nB = MappingProxyType({k: f(v) for k, v in _C.items()})"
    )

    assert list(computed_mappings(ast.parse(source))) == []
