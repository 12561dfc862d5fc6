"""Targets: names, and the occupancy that registers allow."""

import pytest

from lords_bench.errors import UsageError
from lords_bench.static.target import AMD_TARGETS, NVIDIA_TARGETS, named_target, warps_per_sm


def test_targets_are_the_six_nvidia_and_three_amd_architectures() -> None:
    assert NVIDIA_TARGETS == ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
    assert AMD_TARGETS == ("gfx942", "gfx950", "gfx1100")


def test_unknown_target_error_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown target 'sm_70'; known: sm_80, .*gfx1100"):
        named_target("sm_70")


@pytest.mark.parametrize(
    ("registers", "num_warps", "warps"),
    [(32, 4, 64), (64, 4, 32), (168, 2, 12), (168, 4, 12), (129, 4, 12), (255, 8, 8)],
)
def test_occupancy_counts_whole_blocks_that_fit_the_register_file(registers: int, num_warps: int, warps: int) -> None:
    assert warps_per_sm(registers, num_warps) == warps
