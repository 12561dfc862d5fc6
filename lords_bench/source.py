"""What code a result was made with: the one reading of this project's source, and the one hash of what was read.

A hash is over named texts, whatever their order, and never over nothing. There are three kinds of texts:

    definitions  what functions reach, down to the last device function, helper and constant: the key of tuned entries
    statements   whole modules, those that `reached_modules` follows from a few roots: the proof that trees are equal
    files        bytes: of every Python file, of a model, of what no import leads to

Comments, docstrings, layout and the words of errors are in neither of the first two, which are the same on every
version of Python. Source is read and never imported, so neither Triton nor a GPU is needed, and any tree can be asked.
"""

import ast
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, cached_property, partial
from itertools import accumulate
from pathlib import Path

from lords_bench.version import PACKAGE_FOLDER

PACKAGE = "lords_bench"
KERNELS = f"{PACKAGE}.kernels"
TREE = PACKAGE_FOLDER.parent
_MODULE_NAME = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+")
# Fields of syntax trees that say nothing, or not the same on every version of Python.
_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_params", "type_ignores"})


def sha256_of(texts: Mapping[str, str]) -> str:
    """Hash of named texts, in order of name.

    Raises:
        ValueError: there are none, and a hash would say nothing.
    """
    if not texts:
        raise ValueError("nothing to hash")
    return hashlib.sha256("".join(f"{name} {texts[name]}\n" for name in sorted(texts)).encode()).hexdigest()


@cache
def source_sha256(roots: tuple[str, ...]) -> str:
    """Hash of the definitions that `roots` reach in this tree, asked once; arguments and errors of `definitions`."""
    return sha256_of(definitions(TREE, roots))


def package_sha256() -> str:
    """Hash of every Python file of the package; unlike a commit it tells two dirty trees apart."""
    return sha256_of(files(PACKAGE_FOLDER, "", suffix=".py"))


def files(top: Path, *names: str, suffix: str = "") -> dict[str, str]:
    """Paths below `top` to hashes of their bytes.

    Args:
        top: folder.
        names: of files, and of folders whose files count, below linked folders too.
        suffix: that a file in a folder must have.

    Raises:
        FileNotFoundError: a name that stands for no file.
    """
    found: dict[str, str] = {}
    for name in names:
        start = top / name
        walk = [(str(start.parent), [], [start.name])] if start.is_file() else os.walk(start, followlinks=True)
        paths = [Path(folder, file) for folder, _, below in walk for file in below if file.endswith(suffix)]
        if not paths:
            raise FileNotFoundError(f"no file {str(start / f'*{suffix}')!r}")
        for path in paths:
            with path.open("rb") as file:
                found[path.relative_to(top).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def definitions(tree: Path, roots: Iterable[str]) -> dict[str, str]:
    """What every definition says that `roots` reach, by names and through imports.

    Args:
        tree: top of the checkout.
        roots: each `module:name` with the module's name below the package.

    Raises:
        KeyError: a root that is not defined.
        FileNotFoundError: a root in no module.
    """
    read = cache(partial(_read, tree))
    found: dict[str, str] = {}
    waiting: list[tuple[str, str, str]] = []
    for root in roots:
        module, _, name = f"{PACKAGE}.{root}".partition(":")
        if name not in read(module).definitions:
            raise KeyError(f"no definition {name!r} in {module}")
        waiting.append((module, name, ""))
    seen: set[tuple[str, str, str]] = set()
    while waiting:
        item = module, name, attribute = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        source = read(module)
        if name in source.definitions:
            found[f"{module}:{name}"] = normalised(source.definitions[name])
            waiting += [(module, used, its) for used, its in _names(source.definitions[name])]
        elif target := dict(source.imports).get(name):
            base, _, imported = target.rpartition(".")
            # What is taken from a module under that name is the attribute.
            reached = (target, attribute, "") if _path(tree, target) else (base, imported, attribute)
            waiting += [reached] if _path(tree, reached[0]) else []
    return found


def statements(tree: Path, modules: Iterable[str]) -> dict[str, str]:
    """What modules say, without what does not change what they do.

    Raises:
        FileNotFoundError: a module that is not there.
    """
    return {module: _read(tree, module).statements for module in modules}


def reached_modules(
    tree: Path, roots: Iterable[str], *, leave_out: Collection[str] = (), within: str = PACKAGE
) -> frozenset[str]:
    """Every module that the roots import, packages above a module included.

    Imports inside functions count, and so do strings that name a module (`"common.gpu"`), because kernels are imported
    by name. Of a package that nobody asked for but by a module in it, only the imports are followed: a kernel that
    shares the configurations of another does not run what the other's entry names in strings.

    Args:
        tree: top of the checkout.
        roots: modules to start from.
        leave_out: packages whose modules neither count nor are followed.
        within: package that a module must be of or below to count and to be followed.

    Raises:
        FileNotFoundError: a root that is not there.
    """
    found: set[str] = set()
    asked: set[str] = set()
    waiting = [(module, True) for module in roots]
    while waiting:
        module, is_asked = waiting.pop()
        known = asked if is_asked else found
        if module in known or not is_below(module, within) or any(is_below(module, name) for name in leave_out):
            continue
        found.add(module)
        if is_asked:
            asked.add(module)
        above = accumulate(module.split(".")[:-1], "{}.{}".format)
        waiting += [(package, False) for package in above if _path(tree, package)]
        waiting += [(name, True) for name in mentioned(tree, module, with_strings=is_asked)]
    return frozenset(found)


def mentioned(tree: Path, module: str, *, with_strings: bool = True) -> list[str]:
    """Modules that a module names; `from a import b` is of a.b where that is a module, else of a."""
    source = _read(tree, module)
    imported = [name if _path(tree, name) else name.rpartition(".")[0] for _, name in source.imports]
    return [name for name in (*imported, *(source.strings if with_strings else ())) if _path(tree, name)]


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


class Module:
    """A module's source, read once; each part when it is first asked for."""

    def __init__(self, text: str) -> None:
        self._syntax = ast.parse(text)

    @cached_property
    def statements(self) -> str:
        return "\n".join(map(normalised, _without_docstring(self._syntax.body)))

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        """At the top level, by name."""
        found: dict[str, ast.stmt] = {}
        for node in self._syntax.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update({target.id: node for target in targets if isinstance(target, ast.Name)})
        return found

    @cached_property
    def imports(self) -> tuple[tuple[str, str], ...]:
        """Names, and what of this project they stand for: `from a import b` is a.b."""
        pairs = []
        for node in ast.walk(self._syntax):
            if isinstance(node, ast.Import | ast.ImportFrom):
                base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                pairs += [(alias.asname or alias.name, base + alias.name) for alias in node.names]
        return tuple(dict.fromkeys((name, target) for name, target in pairs if is_below(target, PACKAGE)))

    @cached_property
    def strings(self) -> tuple[str, ...]:
        """Those that could be modules of this project: a string with a dot is one itself, or one below a package."""
        found = []
        for node in ast.walk(self._syntax):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value.partition(":")[0]
                if _MODULE_NAME.fullmatch(name):
                    found += [name, f"{PACKAGE}.{name}", f"{KERNELS}.{name}"]
        return tuple(name for name in dict.fromkeys(found) if is_below(name, PACKAGE))


# Most modules are the same in two trees, and read once.
_module = cache(Module)


def _read(tree: Path, module: str) -> Module:
    path = _path(tree, module)
    if path is None:
        raise FileNotFoundError(f"no module {module} in {str(tree)!r}")
    return _module(path.read_text("utf-8"))


def _path(tree: Path, module: str) -> Path | None:
    base = tree.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


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
    is_docstring = (
        bool(body)
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    )
    return body[1:] if is_docstring else body
