"""Kernels broken on purpose: the text of a module is edited and imported anew, without touching the real one."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

PACKAGE = "lords_bench.kernels."

# Module, below `lords_bench.kernels`, to what is replaced in it: (old, new), or several such pairs.
Edit = tuple[str, str]
Edits = Mapping[str, Edit | tuple[Edit, ...]]

# An accumulator made before the loop over tiles, and not reset in it; the sum of split-K partials likewise.
STALE_TOTAL = (
    (
        "    for _ in range(tiles):\n",
        "    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)\n    for _ in range(tiles):\n",
    ),
    ("        total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)\n", ""),
)
STALE_PARTIALS: Edits = {"common.split_k": ("            total = tl.zeros((SIZE,), tl.float32)\n", "")}


def import_edited(kernel: str, edits: Edits, folder: Path) -> ModuleType:
    """The module `kernel` with text replaced in the modules that `edits` names.

    Raises:
        AssertionError: an old text does not occur exactly once, so the edit no longer means anything.
    """
    with patch.dict(sys.modules):
        for name in [*(name for name in edits if name != kernel), kernel]:
            found = importlib.util.find_spec(PACKAGE + name)
            assert found is not None
            assert found.origin is not None
            text = Path(found.origin).read_text()
            for old, new in pairs(edits.get(name, ())):
                assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {name}"
                text = text.replace(old, new)
            path = folder / f"{name.replace('.', '_')}.py"
            path.write_text(text)
            spec = importlib.util.spec_from_file_location(PACKAGE + name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[PACKAGE + name] = module
            spec.loader.exec_module(module)
    return module


def pairs(edit: Edit | tuple[Edit, ...]) -> tuple[Edit, ...]:
    """An edit of one module as (old, new) pairs."""
    if edit and isinstance(edit[0], str):
        old, new = edit
        assert isinstance(new, str)
        return ((old, new),)
    return tuple(pair for pair in edit if not isinstance(pair, str))
