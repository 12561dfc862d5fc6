"""Kernels broken on purpose: the text of a module is edited and imported anew, without touching the real one."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

PACKAGE = "lords_bench.kernels."

Edits = Mapping[str, tuple[str, str]]


def import_edited(kernel: str, edits: Edits, folder: Path) -> ModuleType:
    """The module `kernel` with (old, new) text replaced in the modules that `edits` names (below lords_bench.kernels).

    Raises:
        AssertionError: an old text does not occur exactly once, so the edit no longer means anything.
    """
    with patch.dict(sys.modules):
        for name in [*(name for name in edits if name != kernel), kernel]:
            found = importlib.util.find_spec(PACKAGE + name)
            assert found is not None
            assert found.origin is not None
            text = Path(found.origin).read_text()
            if name in edits:
                old, new = edits[name]
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
