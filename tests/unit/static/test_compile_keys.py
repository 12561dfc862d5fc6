"""A change of what makes a kernel's PTX changes the key that Triton keeps the compiled kernel under."""

import ast
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import triton.language as tl
from triton.runtime.jit import JITFunction

from architecture.import_map import ROOT
from lords_bench.kernels.common import decode, ptx

KERNEL_FILES = sorted((ROOT / "kernels").rglob("*.py"))
# Modules whose text is part of the key as a whole, by a number that kernels refer to.
WHOLE = {"kernels/common/ptx.py": "PTX_SOURCE"}


def plain_calls(source: str) -> Iterator[str]:
    """`constexpr_function → plain function`: what the former calls of its module and Triton does not follow."""
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    plain = {name for name, node in functions.items() if not node.decorator_list}
    for name in functions.keys() - plain:
        if "constexpr_function" in map(_last_name, functions[name].decorator_list):
            called = {node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)}
            yield from (f"{name} → {other}" for other in sorted(called & plain))


def _last_name(decorator: ast.expr) -> str:
    return decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_constant_is_made_by_is_in_the_key(path: Path) -> None:
    found = [*plain_calls(path.read_text("utf-8"))]

    assert not found or path.relative_to(ROOT).as_posix() in WHOLE


@pytest.mark.parametrize("name", ["_decode_call", "decode_bytes"])
def test_kernels_that_decode_are_kept_under_the_text_of_what_writes_their_ptx(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ptx.PTX_SOURCE.value == zlib.crc32(Path(ptx.__file__).read_bytes())
    function = getattr(decode, name)
    before = JITFunction(function.fn).cache_key
    monkeypatch.setattr(decode, "PTX_SOURCE", tl.constexpr(1))

    assert JITFunction(function.fn).cache_key != before


def test_a_plain_function_behind_a_constant_is_found() -> None:
    source = "def plain():\n    return 1\n\n@triton.constexpr_function\ndef constant():\n    return plain()\n"

    assert [*plain_calls(source)] == ["constant → plain"]
