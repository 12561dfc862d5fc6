"""A time is held against what the device was measured to reach: bytes only where nothing lies in a cache."""

from typing import Literal

import pytest

from latency_builders import make_measurement
from lords_bench.records.measurement import Peaks, above_ceiling

PEAKS = Peaks(copy_gbps=4000.0, read_gbps=4200.0, matmul_tflops=700.0)


@pytest.mark.parametrize(
    ("nanoseconds", "regime", "is_possible"),
    [(2_110.0, "cold", True), (2_090.0, "cold", False), (2_090.0, "hot", True)],
)
def test_nine_megabytes_take_two_microseconds_unless_they_are_cached(
    nanoseconds: float, regime: Literal["cold", "hot"], is_possible: bool
) -> None:
    """9 MB at 1.02 times 4,200 GB/s are 2,101 ns."""
    measured = make_measurement(*(nanoseconds,) * 12, regime=regime)

    assert (above_ceiling(measured, PEAKS, bytes_moved=9_000_000, flops=None) is None) is is_possible


def test_operations_are_held_against_the_matmul_peak_in_every_regime() -> None:
    measured = make_measurement(*(1_000.0,) * 12, regime="hot")

    assert above_ceiling(measured, PEAKS, bytes_moved=None, flops=713_000_000) is None
    assert above_ceiling(measured, PEAKS, bytes_moved=None, flops=715_000_000) == (
        "715 TFLOP/s is more than the 700 that a large product reached"
    )


def test_what_is_not_known_is_held_against_nothing() -> None:
    assert above_ceiling(make_measurement(), Peaks(), bytes_moved=10**15, flops=10**15) is None
    assert above_ceiling(make_measurement(), PEAKS, bytes_moved=None, flops=None) is None
