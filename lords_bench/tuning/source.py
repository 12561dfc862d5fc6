"""Hash of whole files by what they mean: the key of the tuner's stand-ins, which are no kernels (see `sources.py`)."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path


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
