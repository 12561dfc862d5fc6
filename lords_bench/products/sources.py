"""Hash of a kernel's source: what an entry of a tuned table was measured with, down to the last function it reaches.

From the functions that a kernel's registry entry names, every definition of this project that they mention is followed
through the imports: device functions, helpers that make a constant or a grid, constants, configurations. Comments,
docstrings, line numbers, the text of errors and everything not reached leave the hash as it is. The source is read and
never imported, so neither Triton nor a GPU is needed, and the hash is the same on every version of Python.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lords_bench.version import PACKAGE_FOLDER

_PACKAGE = "lords_bench"
# Fields of syntax trees that say nothing, or not the same on every version of Python.
_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_params", "type_ignores"})


@cache
def source_sha256(roots: tuple[str, ...]) -> str:
    """Hash of the definitions that `roots` reach; each is `module:name` with the module's name below the package.

    Raises:
        KeyError: a root does not exist.
    """
    reached: dict[str, str] = {}
    for root in roots:
        module, _, name = root.partition(":")
        if name not in _module(module).definitions:
            raise KeyError(f"no definition {name!r} in {module}")
        _follow(module, name, reached)
    text = "\n".join(f"{name} {reached[name]}" for name in sorted(reached))
    return hashlib.sha256(text.encode()).hexdigest()


def reached_definitions(roots: tuple[str, ...]) -> tuple[str, ...]:
    """Names of all definitions that enter the hash, sorted."""
    reached: dict[str, str] = {}
    for root in roots:
        module, _, name = root.partition(":")
        _follow(module, name, reached)
    return tuple(sorted(reached))


class Source:
    """One module's definitions at the top level, and where its imported names come from."""

    def __init__(self, text: str) -> None:
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for node in ast.parse(text).body:
            self._read(node)

    def _read(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            self.definitions.update({target.id: node for target in targets if isinstance(target, ast.Name)})
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == _PACKAGE:
            base = node.module.partition(".")[2]
            self.imports.update({alias.asname or alias.name: (base, alias.name) for alias in node.names})


@cache
def _module(name: str) -> Source:
    return Source(_path(name).read_text("utf-8"))


def _exists(module: str) -> bool:
    return _path(module).is_file()


def _path(module: str) -> Path:
    return PACKAGE_FOLDER.joinpath(*module.split(".")).with_suffix(".py")


def _follow(module: str, name: str, reached: dict[str, str]) -> None:
    qualified = f"{module}:{name}"
    definition = _module(module).definitions.get(name)
    if qualified in reached or definition is None:
        return
    reached[qualified] = normalised(definition)
    for used, attribute in _names(definition):
        if used in _module(module).definitions:
            _follow(module, used, reached)
        elif used in _module(module).imports:
            base, imported = _module(module).imports[used]
            if _exists(f"{base}.{imported}"):
                # A module under that name: what is taken from it is the attribute.
                _follow(f"{base}.{imported}", attribute, reached)
            elif _exists(base):
                _follow(base, imported, reached)


def _names(definition: ast.stmt) -> Iterator[tuple[str, str]]:
    """Every name that a definition mentions, with the attribute taken from it, if any."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        elif isinstance(node, ast.Name):
            yield node.id, ""


def normalised(node: ast.AST) -> str:
    """The syntax tree as text, without what does not change what the code does."""
    if isinstance(node, ast.Raise):
        # That it raises, and what, counts; the words do not.
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return f"Raise({normalised(error) if error else ''})"
    parts = []
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, ast.FunctionDef | ast.ClassDef):
            value = _without_docstring(node.body)
        if name in _SKIPPED_FIELDS or value is None or value == []:
            continue
        if isinstance(value, ast.AST):
            text = normalised(value)
        elif isinstance(value, list):
            text = f"[{','.join(normalised(item) if isinstance(item, ast.AST) else repr(item) for item in value)}]"
        else:
            text = repr(value)
        parts.append(f"{name}={text}")
    return f"{type(node).__name__}({','.join(parts)})"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_docstring else body
