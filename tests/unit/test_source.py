"""The hash of source moves with what runs, down to the last device function, with nothing else, and is of something."""

import ast
from pathlib import Path

import pytest

from lords_bench.products.keys import kernel_source
from lords_bench.products.registry import KERNELS
from lords_bench.source import (
    TREE,
    definitions,
    files,
    mentioned,
    normalised,
    package_sha256,
    reached_modules,
    sha256_of,
    source_sha256,
    statements,
)

ROOTS = ("kernels.one.launch:launch",)

MODULES = {
    "kernels/one/launch.py": """
from lords_bench.kernels.one import one_kernel
from lords_bench.kernels.common import tiles
LIMIT = 4
UNUSED = 5
def launch(x):
    '''Doc.'''
    if x > LIMIT:
        raise ValueError(f"{x} is too large")
    one_kernel[(1,)](x, tiles.rows(x))
""",
    "kernels/one/__init__.py": "from lords_bench.kernels.one.kernel import one_kernel\n",
    "kernels/one/kernel.py": """
import triton
@triton.jit
def one_kernel(x, y):
    # how it decodes
    from lords_bench.kernels.common.decode import decode as decoder
    return decoder(x) + y
""",
    "kernels/common/decode.py": """
def decode(x):
    return helper(x)
def helper(x):
    return x + 1
def other(x):
    return x
""",
    "kernels/common/tiles.py": "def rows(x):\n    return x // 16\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in MODULES.items():
        path = tmp_path / "lords_bench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def edited(tree: Path, file: str, old: str, new: str) -> None:
    path = tree / "lords_bench" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("kernels/one/launch.py", "(1,)", "(2,)"),
        ("kernels/one/launch.py", "LIMIT = 4", "LIMIT = 8"),
        ("kernels/one/launch.py", "ValueError", "TypeError"),
        ("kernels/one/kernel.py", "+ y", "- y"),
        ("kernels/one/kernel.py", "@triton.jit", "@triton.jit(debug=True)"),
        ("kernels/common/decode.py", "x + 1", "x + 2"),
        ("kernels/common/tiles.py", "// 16", "// 32"),
    ],
)
def test_a_change_of_what_runs_changes_the_hash(tree: Path, file: str, old: str, new: str) -> None:
    before = sha256_of(definitions(tree, ROOTS))

    edited(tree, file, old, new)

    assert sha256_of(definitions(tree, ROOTS)) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("kernels/one/kernel.py", "# how it decodes", "# another comment\n\n"),
        ("kernels/one/launch.py", "'''Doc.'''", "'''Other words.'''"),
        ("kernels/one/launch.py", "    '''Doc.'''\n", ""),
        ("kernels/one/launch.py", "is too large", "is much too large"),
        ("kernels/one/launch.py", "UNUSED = 5", "UNUSED = 6"),
        ("kernels/common/decode.py", "def other(x):\n    return x", "def other(x):\n    return -x"),
    ],
)
def test_comments_words_lines_and_what_is_not_reached_leave_the_hash(tree: Path, file: str, old: str, new: str) -> None:
    before = sha256_of(definitions(tree, ROOTS))

    edited(tree, file, old, new)

    assert sha256_of(definitions(tree, ROOTS)) == before


def test_what_a_kernel_reaches_is_found_through_imports_modules_packages_and_inside_functions(tree: Path) -> None:
    assert sorted(definitions(tree, ROOTS)) == [
        "lords_bench.kernels.common.decode:decode",
        "lords_bench.kernels.common.decode:helper",
        "lords_bench.kernels.common.tiles:rows",
        "lords_bench.kernels.one.kernel:one_kernel",
        "lords_bench.kernels.one.launch:LIMIT",
        "lords_bench.kernels.one.launch:launch",
    ]


def test_the_modules_that_a_root_reaches_are_found_with_the_packages_above_them(tree: Path) -> None:
    assert sorted(reached_modules(tree, ["lords_bench.kernels.one.launch"])) == [
        "lords_bench.kernels.common.decode",
        "lords_bench.kernels.common.tiles",
        "lords_bench.kernels.one",
        "lords_bench.kernels.one.kernel",
        "lords_bench.kernels.one.launch",
    ]


def test_a_module_that_a_string_names_is_mentioned_unless_only_imports_are_asked_for(tree: Path) -> None:
    edited(tree, "kernels/common/tiles.py", "// 16", "// len('one.kernel:one_kernel')")

    assert mentioned(tree, "lords_bench.kernels.common.tiles") == ["lords_bench.kernels.one.kernel"]
    assert mentioned(tree, "lords_bench.kernels.common.tiles", with_strings=False) == []


def test_hashes_are_what_they_were_when_tables_and_records_were_written_with_them(tree: Path) -> None:
    """A change of one is a change of every key: tuned entries, machine code and records of the same code are lost."""
    reached = reached_modules(tree, ["lords_bench.kernels.one.launch"])

    assert sha256_of(definitions(tree, ROOTS))[:16] == "2f8c060bdff46682"
    assert sha256_of(statements(tree, reached))[:16] == "8bba9d994c370320"
    assert sha256_of(files(tree, "lords_bench", suffix=".py"))[:16] == "579f4336ad289c79"


def test_files_of_linked_folders_count_and_others_than_asked_for_do_not(tmp_path: Path) -> None:
    package, linked = tmp_path / "package", tmp_path / "linked"
    package.mkdir()
    linked.mkdir()
    (package / "link").symlink_to(linked)
    (package / "notes.txt").write_text("no code")
    (linked / "code.py").write_text("1\n")

    assert list(files(tmp_path, "package", suffix=".py")) == ["package/link/code.py"]
    assert sorted(files(package, "notes.txt", "link")) == ["link/code.py", "notes.txt"]


def test_a_hash_over_nothing_is_an_error(tree: Path) -> None:
    with pytest.raises(ValueError, match="nothing to hash"):
        sha256_of({})
    with pytest.raises(FileNotFoundError, match=r"no file .*absent"):
        files(tree, "absent")
    with pytest.raises(FileNotFoundError, match=r"no file .*one/\*\.txt"):
        files(tree, "lords_bench/kernels/one", suffix=".txt")
    with pytest.raises(FileNotFoundError, match=r"no module lords_bench\.absent in"):
        statements(tree, ["lords_bench.absent"])
    with pytest.raises(FileNotFoundError, match=r"no module lords_bench\.absent in"):
        reached_modules(tree, ["lords_bench.absent"])
    with pytest.raises(FileNotFoundError, match=r"no module lords_bench\.absent in"):
        definitions(tree, ["absent:name"])
    with pytest.raises(KeyError, match="no definition 'run' in"):
        source_sha256(("kernels.scale_tile.launch:run",))


def test_the_hash_of_the_package_covers_the_linked_folders() -> None:
    found = files(TREE / "lords_bench", "", suffix=".py")

    assert package_sha256() == sha256_of(found)
    assert {"source.py", "kernels/scale_tile/kernel.py", "reference/blocks.py", "suites/accuracy/layers.py"} <= set(
        found
    )


@pytest.mark.parametrize("name", KERNELS)
def test_every_registered_kernel_has_a_hash(name: str) -> None:
    assert len(kernel_source(name)) == 64


def test_the_hash_of_a_kernel_covers_its_device_functions_and_its_rule() -> None:
    reached = definitions(TREE, KERNELS["scale_tile"].roots)

    assert "lords_bench.kernels.scale_tile.kernel:scale_tile_kernel" in reached
    assert "lords_bench.kernels.common.decode:decode_words" in reached
    assert "lords_bench.kernels.common.ptx:operand_asm" in reached
    assert "lords_bench.kernels.scale_tile.space:default_config" in reached


def test_kernels_with_different_sources_have_different_hashes() -> None:
    assert len({kernel_source(name) for name in KERNELS}) == len(KERNELS)


def test_the_text_of_a_tree_is_free_of_positions_and_contexts() -> None:
    assert normalised(ast.parse("x = 1").body[0]) == "Assign(targets=[Name(id='x')],value=Constant(value=1))"
