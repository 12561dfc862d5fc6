"""Whether two trees run the same code, proven from their source: what is equal need not be measured again.

From the modules that a measurement starts in, every module of this project that they import is followed, inside
functions too, and so is every string that names a module (`"common.gpu"`), because kernels are imported by name.
Compared are syntax trees without comments, docstrings and the words of errors, and the bytes of data files. Both sides
run in one interpreter on one machine, hence with the same compiler, libraries and tuned tables of the user. Equal is
then a proof that the machine code and the code that launches it are equal; unequal proves nothing, and is measured.
"""

import ast
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lords_bench.products.sources import normalised
from lords_bench.products.tables import user_folder

if TYPE_CHECKING:
    from lords_bench.products.routes import RoutedKind

PACKAGE = "lords_bench"
KERNELS = f"{PACKAGE}.kernels"
_MODULE_NAME = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+")

# What times a benchmark of the latency suite, whatever the method.
LATENCY_ROOTS = (
    f"{PACKAGE}.suites.latency.collector",
    f"{PACKAGE}.suites.conftest",
    f"{PACKAGE}.suites.latency.test_latency",
)
LATENCY_DATA = ("pyproject.toml", f"{PACKAGE}/tuned")
# Weights that a method multiplies with, and so the kernels that it may run; everything else that it runs is on every
# method's path. A method that is not here is always timed.
METHOD_WEIGHTS: Mapping[str, "RoutedKind"] = MappingProxyType(
    {
        "lords": "lords",
        "nf-block": "blockwise",
        "nf-dequantize": "blockwise",
        "int-block": "blockwise",
        "qlora-fused": "blockwise",
        "qlora-merged": "blockwise",
    }
)

# What measures accuracy on a CPU, where no kernel runs. The commands' own files count, but not what they import
# besides: reports and other commands only read records.
ACCURACY_ROOTS = (
    f"{PACKAGE}.suites.accuracy.run",
    f"{PACKAGE}.integrations.hf_model",
    f"{PACKAGE}.suites.accuracy.cases",
    f"{PACKAGE}.suites.accuracy.measure",
    f"{PACKAGE}.suites.accuracy.text",
    f"{PACKAGE}.suites.testbed",
)
ACCURACY_DATA = (
    *(f"{PACKAGE}/cli/{name}.py" for name in ("bench/accuracy", "bench/common", "command", "models", "parser")),
    f"{PACKAGE}/suites/testbed/model",
)


def same_methods(head: Path, baseline: Path) -> tuple[str, ...]:
    """Methods of the latency suite whose kernels, launch code and everything around them are equal in both trees."""
    # A relative folder of tuned tables is another one in each tree.
    if not user_folder().is_absolute() or not _equal(head, baseline, latency_path_sha256):
        return ()
    kernels = folders()
    same = {
        kind
        for kind, names in kernels.items()
        if all(_equal(head, baseline, partial(kernel_sha256, kernel=name)) for name in names)
    }
    return tuple(method for method, kind in METHOD_WEIGHTS.items() if kind in same)


def folders() -> Mapping[str, frozenset[str]]:
    """Kind of weight to the folders of the kernels that multiply with it."""
    from lords_bench.products.registry import ENTRIES

    return {
        kind: frozenset(entry.name for entry in ENTRIES if any(kernel.weight == kind for kernel in entry.kernels))
        for kind in METHOD_WEIGHTS.values()
    }


def same_accuracy(head: Path, baseline: Path) -> bool:
    """Whether both trees measure accuracy on a CPU by the same code, model and settings."""
    return _equal(head, baseline, accuracy_path_sha256)


def latency_path_sha256(tree: Path) -> str:
    """Hash of all that times a method and all that a method runs, its own kernels apart."""
    apart = frozenset(f"{KERNELS}.{name}" for names in folders().values() for name in names)
    beside = {
        name
        for kernel in apart
        for path in reached_modules(tree, _modules_of(tree, kernel), within=KERNELS).values()
        for name in _mentioned(tree, module_of(path.read_text("utf-8")))
        if not _is_below(name, KERNELS)
    }
    return code_sha256(tree, reached_modules(tree, (*LATENCY_ROOTS, *beside), leave_out=apart), data=LATENCY_DATA)


def kernel_sha256(tree: Path, *, kernel: str) -> str:
    """Hash of every module of a kernel's folder, and of what they import of the other kernels' folders."""
    return code_sha256(tree, reached_modules(tree, _modules_of(tree, f"{KERNELS}.{kernel}"), within=KERNELS))


def accuracy_path_sha256(tree: Path) -> str:
    """Hash of all that measures accuracy on a CPU."""
    return code_sha256(tree, reached_modules(tree, ACCURACY_ROOTS, leave_out={KERNELS}), data=ACCURACY_DATA)


def code_sha256(tree: Path, modules: Mapping[str, Path], *, data: Iterable[str] = ()) -> str:
    """Hash of modules as `reached_modules` gives them, and of the bytes of data files and folders of a checkout."""
    total = hashlib.sha256()
    for module, path in sorted(modules.items()):
        total.update(f"{module}\0{module_of(path.read_text('utf-8')).statements}\0".encode())
    for name in data:
        start = tree / name
        for path in [start] if start.is_file() else sorted(path for path in start.rglob("*") if path.is_file()):
            total.update(f"{path.relative_to(tree)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return total.hexdigest()


def reached_modules(
    tree: Path, roots: Iterable[str], *, leave_out: Collection[str] = (), within: str = PACKAGE
) -> Mapping[str, Path]:
    """Module name to file for everything that the roots import, packages above a module included.

    Of a package that nobody asked for but by a module in it, only the imports are followed: a kernel that shares the
    configurations of another does not run what the other's entry names in strings.

    Args:
        tree: top of the checkout.
        roots: modules to start from.
        leave_out: packages whose modules neither count nor are followed.
        within: package that a module must be of or below to count and to be followed.
    """
    found: dict[str, Path] = {}
    asked: set[str] = set()
    waiting = [(module, True) for module in roots]
    while waiting:
        module, is_asked = waiting.pop()
        known = asked if is_asked else found
        if module in known or not _is_below(module, within) or any(_is_below(module, name) for name in leave_out):
            continue
        path = _path(tree, module)
        if path is not None:
            found[module] = path
            read = module_of(path.read_text("utf-8"))
            if is_asked:
                asked.add(module)
            waiting += [(package, False) for package in accumulate(module.split(".")[:-1], "{}.{}".format)]
            waiting += [(name, True) for name in _mentioned(tree, read, with_strings=is_asked)]
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A module's source, read.

    Attributes:
        statements: without what does not change what they do.
        imports: what it imports of this project, modules and names in modules.
        strings: those of its strings that could be modules of this project.
    """

    statements: str
    imports: tuple[str, ...]
    strings: tuple[str, ...]


@cache
def module_of(source: str) -> Module:
    """What a module's source says; most modules are the same on both sides, and read once."""
    syntax = ast.parse(source)
    imports = tuple(name for name in dict.fromkeys(_imported(syntax)) if _is_below(name, PACKAGE))
    strings = tuple(name for name in dict.fromkeys(_in_strings(syntax)) if _is_below(name, PACKAGE))
    body = syntax.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return Module(statements="\n".join(map(normalised, body)), imports=imports, strings=strings)


def _equal(head: Path, baseline: Path, sha256_of: Callable[[Path], str]) -> bool:
    return sha256_of(head) == sha256_of(baseline)


def _modules_of(tree: Path, package: str) -> list[str]:
    folder = tree.joinpath(*package.split("."))
    return [package, *(f"{package}.{path.stem}" for path in sorted(folder.glob("*.py")))]


def _mentioned(tree: Path, module: "Module", *, with_strings: bool = True) -> list[str]:
    """Modules that a module names; `from a import b` is of a.b where that is a module, else of a."""
    imported = [name if _path(tree, name) else name.rpartition(".")[0] for name in module.imports]
    return [*imported, *module.strings] if with_strings else imported


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _path(tree: Path, module: str) -> Path | None:
    base = tree.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _imported(syntax: ast.Module) -> Iterator[str]:
    """What is imported: `from a import b` is a.b."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _in_strings(syntax: ast.Module) -> Iterator[str]:
    """A string with a dot is a module itself, or one below a package."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if _MODULE_NAME.fullmatch(name):
                yield from (name, f"{PACKAGE}.{name}", f"{KERNELS}.{name}")
