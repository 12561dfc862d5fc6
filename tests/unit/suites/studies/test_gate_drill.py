"""Each break of the drill edits text that its file still has: a drill that cannot run proves nothing."""

import pytest

from architecture.import_map import ROOT
from lords_bench.suites.studies.gate_drill import BREAKS, broken


def test_every_break_of_the_drill_changes_its_file() -> None:
    for item in BREAKS:
        text = (ROOT / item.file).read_text("utf-8")

        assert broken(text, item) != text, item.name


def test_a_break_whose_text_is_gone_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"has no .*: mend the break 'a spill"):
        broken("", BREAKS[0])
