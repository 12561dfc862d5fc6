"""A kernel is named in its folder, in the registry and in the routes: everything else goes over the registry's entries.

Folders of `kernels/` and products that they offer are looked for in identifiers and strings of code, not in docstrings.
One kernel may be built of another; between folders only modules count, since a refusal names the kernel to use instead.
"""

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from architecture.import_map import ROOT
from lords_bench.products.registry import ENTRIES, KERNELS

HOME = frozenset(
    {"lords_bench/products/registry.py", "lords_bench/products/routes.py", "lords_bench/products/route.py"}
)
# Names that are words of the project besides: of these only modules and files count.
WORDS = {
    "blockwise": "a kind of weight",
    "dequantize": "what every weight can do",
    "fake_quantize": "the arithmetic of training in reference/qat.py, and its operator",
    "qlora": "a method of fine-tuning",
    "qlora_fused": "a method of the latency suite",
    "reference": "the folder of plain PyTorch",
}
# (file, folder) to the reason why it is named there.
ELSEWHERE = {
    ("lords_bench/timing/cuda_calls.py", "device_probe"): "no kernel of a weight: it asks the device for its clocks",
    ("lords_bench/timing/peaks.py", "device_probe"): "no kernel of a weight: it reads memory as fast as can be",
    ("suites/studies/gate_drill.py", "fake_quantize"): "takes a case out of one kernel's entry",
    ("suites/studies/gate_drill.py", "scale_tile"): "edits the text of one kernel to see the gate find it",
    ("suites/studies/gate_drill.py", "scale_tile_gemm"): "edits what it shares, and asks for its check",
    ("suites/studies/gate_drill.py", "rank_expanded"): "edits what it shares, and asks for its check",
    ("kernels/blockwise/__init__.py", "dequantize"): "its dequantize kernel has the configurations of that of LoRDS",
    ("kernels/blockwise/launch.py", "dequantize"): "its dequantize kernel has the configurations of that of LoRDS",
    ("kernels/blockwise/space.py", "scale_tile"): "its space is that of the LoRDS kernel, so tuning is equal",
    ("kernels/blockwise_gemm/space.py", "scale_tile_gemm"): "its space is that of the LoRDS GEMM, so tuning is equal",
    ("kernels/peft_backward/__init__.py", "dequantize"): "dX of many tokens is a dense product",
    ("kernels/scale_tile_gemm/space.py", "scale_tile"): "its rule changes at the same rank",
    ("kernels/qlora/__init__.py", "blockwise_gemm"): "its products are those of the block-wise kernels",
    ("kernels/qlora/launch.py", "blockwise"): "its products are those of the block-wise kernels",
    ("kernels/qlora/launch.py", "blockwise_gemm"): "its products are those of the block-wise kernels",
}

FOLDERS = tuple(
    sorted(name for path in (ROOT / "kernels").glob("*/__init__.py") if (name := path.parent.name) != "common")
)
NAMES = tuple(dict.fromkeys((*FOLDERS, *KERNELS)))


def named(source: str, names: Collection[str], modules_only: Collection[str]) -> set[str]:
    """Which names a source mentions; of those in `modules_only` a module or file is one, a bare word is none."""
    texts = list(_texts(ast.parse(source)))
    found = set()
    for name in names:
        module = rf"(?:kernels[./]{name}\b|^{name}\.(?:kernel|launch|space|check)\b)"
        pattern = module if name in modules_only else rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])"
        if any(re.search(pattern, text) for text in texts):
            found.add(name)
    return found


def _texts(tree: ast.Module) -> Iterator[str]:
    """Identifiers, imported modules and strings, without docstrings."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value
        for field in ("id", "attr", "name", "arg"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


def code() -> Iterator[tuple[str, str]]:
    """(file, source) of everything but tests, through no link."""
    for folder in ("lords_bench", "kernels", "reference", "suites"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def test_a_kernel_is_named_in_its_folder_the_registry_and_the_routes_only() -> None:
    found = set()
    for file, source in code():
        own = Path(file).parts[1] if file.startswith("kernels/") else None
        modules_only = NAMES if own else WORDS
        found |= {(file, name) for name in named(source, NAMES, modules_only) if name != own and file not in HOME}

    assert found == ELSEWHERE.keys()


def test_every_folder_has_its_line_in_the_registry() -> None:
    assert {*(entry.name for entry in ENTRIES), "device_probe"} == set(FOLDERS)


def test_names_are_of_one_thing_each() -> None:
    products = [kernel.name for entry in ENTRIES for kernel in entry.kernels]
    parts = [part.name for entry in ENTRIES for part in entry.parts]
    checks = [check.name for entry in ENTRIES for check in entry.checks]

    assert len({*products, *parts}) == len(products) + len(parts)
    assert len({*products, *checks}) == len(products) + len(checks)


# The guard can fail.


@pytest.mark.parametrize(
    "source",
    [
        "SPACES = {'scale_tile': 1}",
        "from lords_bench.kernels import scale_tile",
        "from lords_bench.kernels.scale_tile.launch import launch",
        "import lords_bench.kernels.scale_tile.space",
        "def scale_tile(): ...",
        "print('the kernel scale_tile is slow')",
        "kernel_module('scale_tile.launch')",
        "from lords_bench.kernels import qlora",
        "kernel_module('qlora.launch')",
        "open('kernels/qlora/kernel.py')",
    ],
)
def test_a_name_is_found(source: str) -> None:
    assert named(source, ("scale_tile", "scale_tile_gemm", "qlora"), WORDS) in ({"scale_tile"}, {"qlora"})


@pytest.mark.parametrize("source", ["'''scale_tile is meant'''", "x = 'scale_tile_gemm'", "method = 'qlora'"])
def test_what_names_no_kernel_is_left_alone(source: str) -> None:
    assert named(source, ("scale_tile", "qlora"), WORDS) == set()
