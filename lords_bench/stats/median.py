"""Distribution-free intervals of a median, and paired log-ratios of samples that were taken round by round.

An interval between two order statistics holds for every continuous distribution, spikes and all: between the l-th
smallest and the l-th largest of n independent values the median lies with probability 1 − 2 P(Binomial(n, ½) < l)
(David and Nagaraja, "Order Statistics", 3rd ed., section 7.1). No resampling, no random numbers.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt

from lords_bench.stats.bootstrap import Interval

Floats = npt.NDArray[np.float64]

# [min, max] of six values holds the median with probability 1 − 2/64 = 0.969; of five, 0.938 is short of 0.95.
LEAST = 6


@lru_cache(maxsize=4096)
def order_index(count: int, level: float) -> int | None:
    """Largest l, from 1, for which [l-th smallest, l-th largest] of `count` values has at least `level`; None if none.

    Examples:
        >>> order_index(6, 0.95), order_index(5, 0.95), order_index(30, 0.95)
        (1, None, 10)
    """
    # Of 2^count equally likely patterns of signs, how many have fewer than l below the median. Exact integers, because
    # importing scipy's distributions takes longer than a whole quick comparison.
    most = int(Fraction(1 - level) / 2 * 2**count)
    found, patterns = 0, 1
    while patterns <= most:
        found += 1
        patterns += comb(count, found)
    return found or None


def median_interval(values: Sequence[float] | Floats, *, level: float = 0.95) -> Interval:
    """Median and its interval; `low` and `high` are None where the values are too few for the level.

    Raises:
        ValueError: no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not len(ordered):
        raise ValueError("the median of no values is undefined")
    middle = float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    index = order_index(len(ordered), level)
    if index is None:
        return Interval(estimate=middle, low=None, high=None)
    return Interval(estimate=middle, low=float(ordered[index - 1]), high=float(ordered[-index]))


def round_log_ratios(subject: Sequence[float | None] | Floats, baseline: Sequence[float | None] | Floats) -> Floats:
    """log(subject / baseline) of every round; NaN where one of the two was dropped.

    Raises:
        ValueError: the lengths differ.
    """
    if len(subject) != len(baseline):
        raise ValueError(f"{len(subject)} rounds against {len(baseline)}; samples are paired round by round")
    # NumPy reads None as NaN.
    first, second = np.asarray(subject, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    ratios: Floats = np.log(first) - np.log(second)
    return ratios


def paired_log_ratios(subject: Sequence[float | None] | Floats, baseline: Sequence[float | None] | Floats) -> Floats:
    """log(subject / baseline) per block of rounds; None or NaN stands where a sample was dropped.

    Rounds 2i and 2i + 1 ran in opposite orders, so the mean of their two log-ratios is free of what depends on the
    position in a round and of a drift that is linear over the block. Such blocks are the values, as long as
    there are `LEAST` whole ones; else every round in which both were kept is a value.

    Raises:
        ValueError: the lengths differ.
    """
    ratios = round_log_ratios(subject, baseline)
    even = len(ratios) // 2 * 2
    blocks: Floats = ratios[:even].reshape(-1, 2).mean(axis=1)
    blocks = blocks[np.isfinite(blocks)]
    if len(blocks) >= LEAST:
        return blocks
    return ratios[np.isfinite(ratios)]
