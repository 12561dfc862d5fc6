import sys
from pathlib import Path

import pytest
import torch

from lords_bench.timing.memory import MemoryStretch, available_bytes, peak_rss_bytes

MEBI = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a stretch")
def test_a_stretch_has_its_own_peak_and_not_that_of_the_process() -> None:
    large = torch.ones(300 * MEBI // 4)
    del large
    stretch = MemoryStretch(on_gpu=False)
    small = torch.ones(60 * MEBI // 4)
    del small

    grown = (stretch.peak_bytes or 0) - (stretch.start_bytes or 0)

    assert 40 * MEBI < grown < 200 * MEBI
    assert (peak_rss_bytes() or 0) > 0


def test_what_the_system_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lords_bench.timing.memory._reset_high_water", lambda: False)

    stretch = MemoryStretch(on_gpu=False)

    assert (stretch.start_bytes, stretch.peak_bytes) == (None, None)


def test_what_can_be_had_without_swapping_is_what_linux_says(tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  8 kB\nMemFree:  1 kB\nMemAvailable:   3 kB\n")

    assert available_bytes(told) == 3 * 1024
    assert available_bytes(tmp_path / "absent") is None
