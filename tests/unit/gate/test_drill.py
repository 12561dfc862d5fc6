"""Each break of the drill edits text that its file still has: a drill that cannot run proves nothing."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from architecture.import_map import ROOT


@pytest.fixture(scope="module")
def drill() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("gate_drill", ROOT / "benchmarks" / "gate_drill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "gate_drill", module)
        spec.loader.exec_module(module)
        yield module


def test_every_break_of_the_drill_changes_its_file(drill: ModuleType) -> None:
    for item in drill.BREAKS:
        text = (ROOT / item.file).read_text("utf-8")

        assert drill.broken(text, item) != text, item.name


def test_a_break_whose_text_is_gone_is_refused_by_name(drill: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"has no .*: mend the break 'a spill"):
        drill.broken("", drill.BREAKS[0])
