"""Pure functions from samples to estimates with intervals, shared by report and gate. NumPy and SciPy only."""

from lords_bench.stats.bootstrap import Interval, mean_interval, ratio_interval
from lords_bench.stats.crossed import crossed_difference, crossed_interval
from lords_bench.stats.paired import (
    PairedDifference,
    PairedVerdict,
    paired_mean_difference,
    paired_ratio_difference,
    paired_share_difference,
)

__all__ = [
    "Interval",
    "PairedDifference",
    "PairedVerdict",
    "crossed_difference",
    "crossed_interval",
    "mean_interval",
    "paired_mean_difference",
    "paired_ratio_difference",
    "paired_share_difference",
    "ratio_interval",
]
