"""Hash of a kernel's meaning: its source without comments, docstrings and layout, helpers included.

A tuned configuration holds as long as this hash does. Line numbers and wording do not enter; what the kernel calls in
this project, and how its folder launches it, does.
"""

import ast
import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lords_bench.static.request import source_files


def kernel_source(kernel: str) -> str:
    """Hash for a kernel's folder: its `kernel.py` with all it imports, its `launch.py` and its `space.py`.

    Raises:
        UsageError: there is no such kernel.
    """
    folder = "dequantize" if kernel == "dequantize_matmul" else kernel
    package = f"lords_bench.kernels.{folder}"
    files = set(source_files(f"{package}.kernel"))
    for module in (f"{package}.launch", f"{package}.space"):
        spec = find_spec(module)
        if spec is not None and spec.origin is not None:
            files.add(Path(spec.origin))
    return files_sha256(files)


def files_sha256(files: Iterable[Path]) -> str:
    """Hash of the normalised sources, in no particular order."""
    return hashlib.sha256(
        "".join(sorted(normalised_sha256(path.read_text("utf-8")) for path in files)).encode()
    ).hexdigest()


def normalised_sha256(source: str) -> str:
    """Hash of a Python source without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
