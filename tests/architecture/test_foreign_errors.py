"""What a library's exception says enters a message through `lords_bench.errors` alone: as one bounded line."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from architecture.import_map import PACKAGE, ROOT

# What makes one bounded line of an exception, or does not show its text.
THROUGH = frozenset({"reason_of", "kind_and_ends", "failure_of", "type", "isinstance"})
# What is no text of a library: a module's or a file's name, a candidate's own reason.
FIELDS = frozenset({"filename", "name", "reason"})
SHOWING = frozenset({"str", "repr", "format"})


def own_errors() -> frozenset[str]:
    """The names of our own exception classes; their messages are bounded lines already."""
    trees = [ast.parse((ROOT / PACKAGE / name).read_text("utf-8")) for name in ("errors.py", "isolate.py")]
    return frozenset(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))


def caught_by(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(kind).rpartition(".")[2] for kind in kinds if kind is not None}


def shows(node: ast.AST, name: str) -> bool:
    """Whether an expression holds the exception itself, outside of what makes a line of it."""
    if isinstance(node, ast.Name):
        return node.id == name
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in THROUGH:
        return False
    if isinstance(node, ast.Attribute) and node.attr in FIELDS:
        return False
    return any(shows(child, name) for child in ast.iter_child_nodes(node))


def raw_texts(source: str) -> Iterator[int]:
    """Lines where the text of a foreign exception is put into a message as it is."""
    for handler in ast.walk(ast.parse(source)):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or caught_by(handler) <= own_errors():
            continue
        for node in ast.walk(handler):
            if isinstance(node, ast.FormattedValue):
                found = shows(node.value, handler.name)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SHOWING:
                found = any(shows(argument, handler.name) for argument in node.args)
            else:
                continue
            if found and not is_condition(handler, node):
                yield node.lineno


def is_condition(handler: ast.ExceptHandler, node: ast.AST) -> bool:
    """Whether the text is only looked at, as in `if "Allocator" not in str(error)`."""
    tests = (inner.test for inner in ast.walk(handler) if isinstance(inner, ast.If | ast.IfExp))
    return any(node in ast.walk(test) for test in tests)


def sources() -> list[Path]:
    folders = (ROOT / PACKAGE, ROOT / "suites", ROOT / "reference", ROOT / "kernels")
    return sorted({path.resolve() for folder in folders for path in folder.rglob("*.py")})


def test_no_library_speaks_through_our_messages_unbounded() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in sources() for line in raw_texts(path.read_text("utf-8"))]

    assert found == []


# The guard can fail.


@pytest.mark.parametrize(
    "body",
    [
        'raise ModelError(f"damaged: {error}")',
        'raise ModelError(f"damaged: {error!r}")',
        'raise ModelError(f"damaged: {error.strerror or error}")',
        'raise ModelError("damaged: " + str(error))',
        'reason = str(error).split("\\n")[0]',
    ],
)
def test_a_text_that_is_passed_on_is_found(body: str) -> None:
    assert list(raw_texts(f"try:\n    work()\nexcept (OSError, ValueError) as error:\n    {body}\n")) == [4]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("OSError", 'raise ModelError(f"damaged: {reason_of(error)}")'),
        ("OSError", 'raise ModelError(f"damaged: {type(error).__name__}")'),
        ("ModuleNotFoundError", 'raise ModelError(f"no {error.name!r}")'),
        ("(SpecError, WeightError)", 'raise type(error)(f"layer 1: {error}")'),
        ("RuntimeError", 'if "Allocator" not in str(error):\n        raise'),
    ],
)
def test_a_line_of_ours_is_not(kind: str, body: str) -> None:
    assert list(raw_texts(f"try:\n    work()\nexcept {kind} as error:\n    {body}\n")) == []
