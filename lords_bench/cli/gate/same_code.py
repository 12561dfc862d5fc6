"""Whether two trees run the same code, proven from their source: what is equal need not be measured again.

From the modules that a measurement starts in, every module of this project that they import is followed, inside
functions too, and so is every string that names a module (`"scale_tile.launch"`), because kernels are imported by name.
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

from lords_bench.tuning.sources import normalised
from lords_bench.tuning.tables import user_folder

PACKAGE = "lords_bench"
KERNELS = f"{PACKAGE}.kernels"
_MODULE_NAME = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+")

# What times a benchmark of the latency suite, whatever the method.
LATENCY_ROOTS = (f"{PACKAGE}.suites.collector", f"{PACKAGE}.suites.conftest", f"{PACKAGE}.suites.test_latency")
LATENCY_DATA = ("pyproject.toml", f"{PACKAGE}/tuned")
# Kernels that a method may run; everything else that it runs is on every method's path. A method that is not here is
# always timed.
METHOD_KERNELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lords": ("rank_expanded", "scale_tile", "scale_tile_gemm", "dequantize"),
        "nf-block": ("blockwise",),
        "nf-dequantize": ("blockwise",),
        "int-block": ("blockwise",),
        "qlora-fused": ("blockwise",),
        "qlora-merged": ("blockwise",),
    }
)

# What measures accuracy on a CPU, where no kernel runs. The commands' own files count, but not what they import
# besides: reports and other commands only read records.
ACCURACY_ROOTS = (
    f"{PACKAGE}.runner",
    f"{PACKAGE}.integrations.hf_model",
    f"{PACKAGE}.suites.accuracy",
    f"{PACKAGE}.suites.evaluate",
    f"{PACKAGE}.suites.evaluation_text",
    f"{PACKAGE}.suites.testbed.load",
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
    kernels = {name for names in METHOD_KERNELS.values() for name in names}
    same = {name for name in kernels if _equal(head, baseline, partial(kernel_sha256, kernel=name))}
    return tuple(method for method, names in METHOD_KERNELS.items() if same.issuperset(names))


def same_accuracy(head: Path, baseline: Path) -> bool:
    """Whether both trees measure accuracy on a CPU by the same code, model and settings."""
    return _equal(head, baseline, accuracy_path_sha256)


def latency_path_sha256(tree: Path) -> str:
    """Hash of all that times a method and all that a method runs, its own kernels apart."""
    apart = frozenset(f"{KERNELS}.{name}" for names in METHOD_KERNELS.values() for name in names)
    beside = {
        name
        for kernel in apart
        for path in reached_modules(tree, _modules_of(tree, kernel), within=KERNELS).values()
        for name in module_of(path.read_text("utf-8")).mentions
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

    Args:
        tree: top of the checkout.
        roots: modules to start from.
        leave_out: packages whose modules neither count nor are followed.
        within: package that a module must be of or below to count and to be followed.
    """
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in found or not _is_below(module, within) or any(_is_below(module, name) for name in leave_out):
            continue
        path = _path(tree, module)
        if path is not None:
            found[module] = path
            waiting += accumulate(module.split(".")[:-1], "{}.{}".format)
            waiting += module_of(path.read_text("utf-8")).mentions
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A module's source, read.

    Attributes:
        statements: without what does not change what they do.
        mentions: names that could be modules of this project.
    """

    statements: str
    mentions: tuple[str, ...]


@cache
def module_of(source: str) -> Module:
    """What a module's source says; most modules are the same on both sides, and read once."""
    syntax = ast.parse(source)
    mentions = tuple(name for name in dict.fromkeys(_mentioned(syntax)) if _is_below(name, PACKAGE))
    body = syntax.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return Module(statements="\n".join(map(normalised, body)), mentions=mentions)


def _equal(head: Path, baseline: Path, sha256_of: Callable[[Path], str]) -> bool:
    return sha256_of(head) == sha256_of(baseline)


def _modules_of(tree: Path, package: str) -> list[str]:
    folder = tree.joinpath(*package.split("."))
    return [package, *(f"{package}.{path.stem}" for path in sorted(folder.glob("*.py")))]


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _path(tree: Path, module: str) -> Path | None:
    base = tree.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _mentioned(syntax: ast.Module) -> Iterator[str]:
    """Names that could be modules: `from a import b` is a and a.b, a string with a dot is itself or below a package."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if _MODULE_NAME.fullmatch(name):
                yield from (name, f"{PACKAGE}.{name}", f"{KERNELS}.{name}")
