"""Whether two trees run the same code, proven from their source: what is equal need not be measured again.

From the modules that a measurement starts in, every module of this project that they import is followed, inside
functions too, and so is every string that names a module (`"common.gpu"`), because kernels are imported by name.
Compared are syntax trees without comments, docstrings and the words of errors, and the bytes of data files. Both sides
run in one interpreter on one machine, hence with the same compiler, libraries and tuned tables of the user. Equal is
then a proof that the machine code and the code that launches it are equal; unequal proves nothing, and is measured.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lords_bench.products.tables import user_folder
from lords_bench.source import KERNELS, PACKAGE, files, is_below, mentioned, reached_modules, sha256_of, statements

if TYPE_CHECKING:
    from lords_bench.products.routes import RoutedKind


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
        for module in reached_modules(tree, _modules_of(tree, kernel), within=KERNELS)
        for name in mentioned(tree, module)
        if not is_below(name, KERNELS)
    }
    reached = reached_modules(tree, (*LATENCY_ROOTS, *beside), leave_out=apart)
    return sha256_of(statements(tree, reached) | files(tree, *LATENCY_DATA))


def kernel_sha256(tree: Path, *, kernel: str) -> str:
    """Hash of every module of a kernel's folder, and of what they import of the other kernels' folders."""
    modules = _modules_of(tree, f"{KERNELS}.{kernel}")
    return sha256_of(statements(tree, reached_modules(tree, modules, within=KERNELS)))


def accuracy_path_sha256(tree: Path) -> str:
    """Hash of all that measures accuracy on a CPU."""
    reached = reached_modules(tree, ACCURACY_ROOTS, leave_out={KERNELS})
    return sha256_of(statements(tree, reached) | files(tree, *ACCURACY_DATA))


def _equal(head: Path, baseline: Path, hash_of: Callable[[Path], str]) -> bool:
    ours = hash_of(head)
    try:
        return ours == hash_of(baseline)
    except FileNotFoundError:
        # What is measured here was not there yet, which is no defect of this tree.
        return False


def _modules_of(tree: Path, package: str) -> list[str]:
    folder = tree.joinpath(*package.split("."))
    return [package, *(f"{package}.{path.stem}" for path in sorted(folder.glob("*.py")))]
