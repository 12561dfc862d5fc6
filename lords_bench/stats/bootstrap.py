"""95 % bootstrap intervals of means and of ratios of sums, such as Σ KL / Σ tokens.

What is drawn with replacement is a cluster: all windows of one document where documents are known, else the single
item. A plain percentile interval is too narrow for few clusters, so its tails are moved out to
Φ(−√(n/(n−1)) · t(n−1)): the expanded percentile interval of Hesterberg, "What Teachers Should Know About the
Bootstrap", The American Statistician 69 (2015). Draws come from `numpy.random.RandomState`, whose stream NumPy has
frozen, so equal samples give equal intervals.

Cost: `RESAMPLES` × clusters integers, kept for the last few cluster counts; milliseconds per interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lords_bench.errors import RecordError

LEVEL = 0.95
RESAMPLES = 4000
SEED = 0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate and its 95 % interval; `low` and `high` are None where fewer than two clusters allow no interval."""

    estimate: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"interval has low {self.low} and high {self.high}; give both or neither")

    def scaled(self, factor: float) -> "Interval":
        """The same interval in another unit; `factor` is positive."""
        low = None if self.low is None else self.low * factor
        high = None if self.high is None else self.high * factor
        return Interval(estimate=self.estimate * factor, low=low, high=high)


def mean_interval(values: Sequence[float], *, clusters: Sequence[int] = ()) -> Interval:
    """Mean of the values with its interval; see `ratio_interval`."""
    return ratio_interval(values, [1.0] * len(values), clusters=clusters)


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], *, clusters: Sequence[int] = ()
) -> Interval:
    """Σ numerators / Σ denominators with its interval.

    Args:
        numerators: one value per item.
        denominators: one value per item; every cluster's sum is positive.
        clusters: cluster number of each item; empty = each item is its own cluster.

    Raises:
        RecordError: no items, lengths that differ, or a cluster whose denominators sum to 0 or less.
    """
    top, bottom = _cluster_sums(numerators, denominators, clusters)
    estimate = float(top.sum() / bottom.sum())
    count = len(top)
    if count < 2:
        return Interval(estimate=estimate, low=None, high=None)
    draws = _draw_counts(count)
    sums = draws @ np.stack([top, bottom], axis=1)
    resampled = sums[:, 0] / sums[:, 1]
    tail = _tail_probability(count)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    # Rounding of the matrix product must not push a constant sample's estimate out of its own interval.
    return Interval(estimate=estimate, low=min(float(low), estimate), high=max(float(high), estimate))


def _cluster_sums(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[int]
) -> tuple[Floats, Floats]:
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if not len(top) or len(top) != len(bottom) or (len(clusters) and len(clusters) != len(top)):
        lengths = f"{len(top)} numerators, {len(bottom)} denominators, {len(clusters)} clusters"
        raise RecordError(f"an interval needs equally many values: {lengths}")
    if len(clusters):
        _, membership = np.unique(np.asarray(clusters), return_inverse=True)
        top = np.bincount(membership, weights=top).astype(np.float64)
        bottom = np.bincount(membership, weights=bottom).astype(np.float64)
    if not (bottom > 0).all():
        raise RecordError(f"an interval needs positive denominators, the least is {bottom.min()}")
    return top, bottom


@lru_cache(maxsize=8)
def _draw_counts(count: int) -> Floats:
    """How often each of `count` clusters is drawn in each resample: (RESAMPLES, count)."""
    draws = np.random.RandomState(SEED).randint(0, count, size=(RESAMPLES, count), dtype=np.int64)
    flat = draws + count * np.arange(RESAMPLES, dtype=np.int64)[:, None]
    return np.bincount(flat.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(np.float64)


def _tail_probability(count: int) -> float:
    # Imported here because it takes most of a second, and verdicts on timings need only `Interval`.
    from scipy import stats

    t = stats.t.ppf((1 + LEVEL) / 2, df=count - 1)
    return float(stats.norm.cdf(-np.sqrt(count / (count - 1)) * t))
