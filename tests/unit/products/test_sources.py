"""The hash of a kernel's source moves with what runs, down to the device functions it calls, and with nothing else."""

import ast

import pytest

from lords_bench.products import sources
from lords_bench.products.keys import kernel_source
from lords_bench.products.registry import KERNELS
from lords_bench.products.sources import Source, normalised, reached_definitions, source_sha256

ROOTS = ("kernels.one.launch:launch",)

MODULES = {
    "kernels.one.launch": """
from lords_bench.kernels.one.kernel import one_kernel
from lords_bench.kernels.common import tiles
LIMIT = 4
UNUSED = 5
def launch(x):
    '''Doc.'''
    if x > LIMIT:
        raise ValueError(f"{x} is too large")
    one_kernel[(1,)](x, tiles.rows(x))
""",
    "kernels.one.kernel": """
import triton
from lords_bench.kernels.common.decode import decode as decoder
@triton.jit
def one_kernel(x, y):
    # how it decodes
    return decoder(x) + y
""",
    "kernels.common.decode": """
def decode(x):
    return helper(x)
def helper(x):
    return x + 1
def other(x):
    return x
""",
    "kernels.common.tiles": "def rows(x):\n    return x // 16\n",
}


@pytest.fixture(autouse=True)
def _fresh_caches() -> None:
    source_sha256.cache_clear()


def hashed(monkeypatch: pytest.MonkeyPatch, module: str = "", old: str = "", new: str = "") -> str:
    """The hash with `old` replaced in one module."""
    texts = {name: text.replace(old, new) if name == module else text for name, text in MODULES.items()}
    assert not module or texts[module] != MODULES[module]
    read = {name: Source(text) for name, text in texts.items()}
    monkeypatch.setattr(sources, "_module", read.__getitem__)
    monkeypatch.setattr(sources, "_exists", read.__contains__)
    source_sha256.cache_clear()
    return source_sha256(ROOTS)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("kernels.one.launch", "(1,)", "(2,)"),
        ("kernels.one.launch", "LIMIT = 4", "LIMIT = 8"),
        ("kernels.one.launch", "ValueError", "TypeError"),
        ("kernels.one.kernel", "+ y", "- y"),
        ("kernels.one.kernel", "@triton.jit", "@triton.jit(debug=True)"),
        ("kernels.common.decode", "x + 1", "x + 2"),
        ("kernels.common.tiles", "// 16", "// 32"),
    ],
)
def test_a_change_of_what_runs_changes_the_hash(
    monkeypatch: pytest.MonkeyPatch, module: str, old: str, new: str
) -> None:
    assert hashed(monkeypatch, module, old, new) != hashed(monkeypatch)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("kernels.one.kernel", "# how it decodes", "# another comment\n\n"),
        ("kernels.one.launch", "'''Doc.'''", "'''Other words.'''"),
        ("kernels.one.launch", "    '''Doc.'''\n", ""),
        ("kernels.one.launch", "is too large", "is much too large"),
        ("kernels.one.launch", "UNUSED = 5", "UNUSED = 6"),
        ("kernels.common.decode", "def other(x):\n    return x", "def other(x):\n    return -x"),
    ],
)
def test_comments_words_lines_and_what_is_not_reached_leave_the_hash(
    monkeypatch: pytest.MonkeyPatch, module: str, old: str, new: str
) -> None:
    assert hashed(monkeypatch, module, old, new) == hashed(monkeypatch)


def test_what_a_kernel_reaches_is_found_through_imports_and_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed(monkeypatch)

    assert reached_definitions(ROOTS) == (
        "kernels.common.decode:decode",
        "kernels.common.decode:helper",
        "kernels.common.tiles:rows",
        "kernels.one.kernel:one_kernel",
        "kernels.one.launch:LIMIT",
        "kernels.one.launch:launch",
    )


def test_a_root_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="no definition 'run' in"):
        source_sha256(("kernels.scale_tile.launch:run",))


@pytest.mark.parametrize("name", KERNELS)
def test_every_registered_kernel_has_a_hash(name: str) -> None:
    assert len(kernel_source(name)) == 64


def test_the_hash_of_a_kernel_covers_its_device_functions_and_its_rule() -> None:
    reached = reached_definitions(KERNELS["scale_tile"].roots)

    assert "kernels.scale_tile.kernel:scale_tile_kernel" in reached
    assert "kernels.common.decode:decode_words" in reached
    assert "kernels.common.ptx:operand_asm" in reached
    assert "kernels.scale_tile.space:default_config" in reached


def test_kernels_with_different_sources_have_different_hashes() -> None:
    assert len({kernel_source(name) for name in KERNELS}) == len(KERNELS)


def test_the_text_of_a_tree_is_free_of_positions_and_contexts() -> None:
    assert normalised(ast.parse("x = 1").body[0]) == "Assign(targets=[Name(id='x')],value=Constant(value=1))"
