"""A file appears whole or not at all: what writes one stands in a block of `lords_bench.files`, or is listed here."""

import ast
from collections.abc import Iterator

import pytest

from architecture.import_map import ROOT

FOLDERS = ("lords_bench", "reference", "suites", "kernels")
BLOCKS = {"whole_file", "whole_folder", "whole_files"}
# Functions and methods that make a file, ours and of libraries; those that make a text where they are given no path;
# and methods of texts, dates and dataclasses too, which are given more or less than one argument by its place.
WRITERS = {
    "copy2", "copyfile", "dump", "imsave", "mkstemp", "save", "save_file", "save_model", "save_pretrained", "savefig",
    "savetxt", "savez", "touch", "write_bytes", "write_text", "NamedTemporaryFile", "ZipFile",
}  # fmt: skip
WRITERS_TO_A_PATH = {"to_csv", "to_json", "to_parquet", "to_string"}
MOVERS = {"rename", "replace"}
WRITING_MODES = set("wax+")

# Where a writer stands outside of such a block, and why that is right.
KNOWN = {
    "suites/studies/gate_drill.py drill": "breaks a source file of a copy of the tree, and mends it",
    "lords_bench/cli/output.py prepare_output": "opens /dev/null",
    "lords_bench/files.py settle_folder": "is part of such a block",
    "lords_bench/files.py whole_file": "is such a block",
    "lords_bench/files.py whole_files": "is such a block",
    "lords_bench/files.py whole_folder": "is such a block",
    "lords_bench/isolate.py start": "a switch of the kernel",
    "lords_bench/integrations/pretrained.py fill_model_folder": "is called in such a block",
    "lords_bench/records/lines.py set_torn_line_aside": "appends",
    "lords_bench/report/svg.py draw": "draws into memory",
    "lords_bench/static/worker.py disassemble": "in a temporary folder, for a program that reads it at once",
    "lords_bench/timing/memory.py _reset_high_water": "a switch of the kernel",
    "lords_bench/training/checkpoints.py newest_whole": "moves a folder aside",
    "lords_bench/training/checkpoints.py publish": "writes into a folder that takes its place by a rename",
    "lords_bench/visit/archive.py unpack": "into a folder of its caller's own",
    "lords_bench/visit/pack.py _archive": "packs into memory",
    "lords_bench/visit/steps.py _run": "appends what a program prints",
}


def writers_outside_blocks(source: str) -> Iterator[str]:
    """Names of the functions that hold a writer outside of such a block; a module's own level is ''."""

    def visit(node: ast.AST, function: str) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.With) and any(_name(item.context_expr) in BLOCKS for item in node.items):
            return
        if isinstance(node, ast.Call) and _writes(node):
            yield function
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    yield from visit(ast.parse(source), "")


def _name(node: ast.AST) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _writes(call: ast.Call) -> bool:
    name = _name(call)
    if name == "open":
        texts = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and 0 < len(text) <= 3]
        return any(WRITING_MODES & set(mode) for mode in modes)
    is_given_one = len(call.args) == 1 and not call.keywords
    return (
        name in WRITERS
        or (name in WRITERS_TO_A_PATH and bool(call.args))
        or (name in MOVERS and isinstance(call.func, ast.Attribute) and is_given_one)
    )


def found_writers() -> set[str]:
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    found = set()
    for path in paths:
        place = path.relative_to(ROOT).as_posix()
        found |= {f"{place} {function}" for function in writers_outside_blocks(path.read_text("utf-8"))}
    return found


def test_every_writer_is_whole_or_listed_with_its_reason() -> None:
    assert sorted(found_writers() - KNOWN.keys()) == []


def test_the_list_holds_nothing_that_is_gone() -> None:
    assert sorted(KNOWN.keys() - found_writers()) == []


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text(x)",
        "save_file(tensors, path)",
        "torch.save(x, path)",
        "model.save_pretrained(folder)",
        "figure.savefig(path)",
        "path.open('w')",
        "open(path, mode='ab')",
        "shutil.copyfile(a, b)",
        "part.replace(path)",
        "frame.to_csv(path)",
    ],
)
def test_a_writer_is_seen_outside_of_a_block_and_none_within(line: str) -> None:
    outside = f"def f():\n    {line}\n"
    within = f"def f():\n    with whole_file(path) as part, other():\n        {line}\n"

    assert list(writers_outside_blocks(outside)) == ["f"]
    assert list(writers_outside_blocks(within)) == []


@pytest.mark.parametrize(
    "line", ["path.open('rb')", "open(path)", "text.replace('a', 'b')", "frame.to_csv(index=False)"]
)
def test_reading_and_texts_are_no_writing(line: str) -> None:
    assert list(writers_outside_blocks(line)) == []
