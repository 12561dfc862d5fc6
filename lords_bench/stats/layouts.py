"""Intervals of the ratio of two candidates whose buffers were laid out anew several times.

What an allocation does to a kernel (pages, cache sets, channels) stays with it for as long as it lives: rounds on the
same buffers share it, and more of them bring nobody nearer to the truth. So rounds are clustered by layout. A cluster's
centre is the Hodges-Lehmann estimate of its log-ratios (Annals of Mathematical Statistics 34, 1963), which a spike
hardly moves; the interval is Student's over the centres. It keeps its level where clusters scatter differently, and is
then too wide rather than too narrow (Ibragimov and Müller, "t-Statistic Based Correlation and Heterogeneity Robust
Inference", Journal of Business & Economic Statistics 28, 2010).

With a single layout the interval is that of the median over blocks of rounds (`stats.median`): it holds noise alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import numpy as np
import numpy.typing as npt

from lords_bench.errors import RecordError
from lords_bench.stats.bootstrap import Interval
from lords_bench.stats.median import LEAST, Floats, median_interval, paired_log_ratios, round_log_ratios

# Two equal candidates on one layout each have been seen 0.5 % from their mean, hence 0.7 % from each other; 2 % is out
# of reach of 99.5 % of such pairs. Where nobody saw a second layout, no smaller difference is a difference.
UNSEEN_LAYOUT = 0.02

# Quantiles of Student's t at 97.5 % by degrees of freedom, from 1. A table, because importing scipy's distributions
# takes longer than a whole quick comparison; above it the last value is a little too large.
_STUDENT = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139, 2.200985,
    2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963, 2.079614, 2.073873,
    2.068658, 2.063899,
)  # fmt: skip

Rounds = Sequence[float | None] | Floats


def student_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t with that many degrees of freedom, at least 1."""
    return _STUDENT[min(freedom, len(_STUDENT)) - 1]


def shared_layouts(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """What to cluster the rounds of two candidates by: the layouts of the one that had fewer; empty = not known."""
    if not (first and second):
        return ()
    return tuple(min(first, second, key=lambda layouts: len(set(layouts))))


def is_single(layouts: Sequence[int]) -> bool:
    """Whether rounds are known to have seen one layout only."""
    return len(set(layouts)) == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedRatio:
    """Log-ratio of two candidates with its 95 % interval, and how many independent values that rests on."""

    interval: Interval
    values: int


def paired_ratio(subject: Rounds, baseline: Rounds, layouts: Sequence[int] = ()) -> PairedRatio | None:
    """The log-ratio of two candidates that were timed in the same rounds.

    None where fewer than six rounds have both samples, or all of these ran on one layout out of several.

    Args:
        subject: time of each round, None or NaN where the sample was dropped.
        baseline: the same of the baseline.
        layouts: what each round is clustered by; empty = not known.

    Raises:
        RecordError: rounds and layouts differ in number.
    """
    blocks = paired_log_ratios(subject, baseline)
    if len(blocks) < LEAST:
        return None
    over_blocks = median_interval(blocks)
    if not layouts or is_single(layouts):
        return PairedRatio(interval=over_blocks, values=len(blocks))
    centres = _centres(round_log_ratios(subject, baseline), layouts)
    if len(centres) < 2:
        return None
    mean = float(centres.mean())
    half = student_quantile(len(centres) - 1) * float(centres.std(ddof=1)) / len(centres) ** 0.5
    assert over_blocks.low is not None
    assert over_blocks.high is not None
    # A dozen centres may lie close together by luck, and sampling stops when they do: their interval is never taken to
    # be narrower than the noise of the single blocks allows.
    half = max(half, (over_blocks.high - over_blocks.low) / 2)
    return PairedRatio(interval=Interval(estimate=mean, low=mean - half, high=mean + half), values=len(centres))


def _centres(ratios: Floats, layouts: Sequence[int]) -> Floats:
    if len(layouts) != len(ratios):
        raise RecordError(f"{len(ratios)} rounds have {len(layouts)} layouts; each round has one")
    clusters: dict[int, list[float]] = defaultdict(list)
    for layout, ratio in zip(layouts, ratios.tolist(), strict=True):
        if isfinite(ratio):
            clusters[layout].append(ratio)
    return np.array([centre(members) for members in clusters.values()], dtype=np.float64)


def centre(values: Sequence[float]) -> float:
    """Hodges-Lehmann estimate: the median of the means of all pairs of values, each with itself included.

    Examples:
        >>> centre([1.0, 2.0, 3.0, 100.0])
        2.5
    """
    members = np.asarray(values, dtype=np.float64)
    first, second = _pairs(len(members))
    sums = members[first] + members[second]
    sums.sort()
    return float(sums[(len(sums) - 1) // 2] + sums[len(sums) // 2]) / 4


@lru_cache(maxsize=512)
def _pairs(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    first, second = np.triu_indices(count)
    return first, second
