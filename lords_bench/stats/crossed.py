"""Intervals of a ratio of sums that was measured on the same items in several training runs: items × seeds.

Two things could have come out differently: the held-out documents, and what the seeds decide (order of the text, random
starts). Both are crossed: every seed sees every document. The variance of the mean is taken as the sum of two parts,

    documents   the linearised variance of the ratio Σ values / Σ denominators over clusters, values averaged over seeds
    seeds       the variance of the per-seed ratios / number of seeds

and the interval is t-distributed with Satterthwaite's degrees of freedom ("An approximate distribution of estimates of
variance components", Biometrics Bulletin 2, 1946). What documents and seeds do together is in both parts, so the
interval is a little too wide rather than too narrow. With a single seed the second part is not known and left out.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from lords_bench.errors import RecordError
from lords_bench.stats.bootstrap import LEVEL, Floats, Interval
from lords_bench.stats.paired import PairedDifference


def crossed_interval(
    values: Sequence[Sequence[float]], denominators: Sequence[float], *, clusters: Sequence[int]
) -> Interval:
    """Mean over seeds of Σ values / Σ denominators, with its interval.

    Args:
        values: for each seed one value per item.
        denominators: one value per item, the same for all seeds; their sum is positive.
        clusters: cluster number of each item.

    Raises:
        RecordError: no seed, lengths that differ, or denominators that sum to 0 or less.
    """
    table = _cluster_sums(values, denominators, clusters)
    sums_SC, bottom_C = table
    total = float(bottom_C.sum())
    per_seed = sums_SC.sum(axis=1) / total
    estimate = float(per_seed.mean())
    seeds, count = sums_SC.shape
    if count < 2:
        return Interval(estimate=estimate, low=None, high=None)
    residual_C = sums_SC.mean(axis=0) - estimate * bottom_C
    parts = [(float((residual_C**2).sum()) * count / (count - 1) / total**2, count - 1)]
    if seeds > 1:
        parts.append((float(per_seed.var(ddof=1)) / seeds, seeds - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Interval(estimate=estimate, low=estimate, high=estimate)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stats.t.ppf((1 + LEVEL) / 2, df=freedom)) * variance**0.5
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def crossed_difference(
    subject: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    denominators: Sequence[float],
    *,
    clusters: Sequence[int],
    lower_is_better: bool,
) -> PairedDifference:
    """Σ (subject − baseline) / Σ denominators, paired by seed and item; see `crossed_interval`.

    Raises:
        RecordError: seeds or items differ in number.
    """
    shapes = [[len(row) for row in side] for side in (subject, baseline)]
    if shapes[0] != shapes[1]:
        raise RecordError(f"a paired difference needs the same seeds and items: {shapes[0]} against {shapes[1]}")
    pairs = zip(subject, baseline, strict=True)
    differences = [[a - b for a, b in zip(first, second, strict=True)] for first, second in pairs]
    value = crossed_interval(baseline, denominators, clusters=clusters).estimate
    interval = crossed_interval(differences, denominators, clusters=clusters)
    return PairedDifference(interval=interval, baseline=value, lower_is_better=lower_is_better)


def _cluster_sums(
    values: Sequence[Sequence[float]], denominators: Sequence[float], clusters: Sequence[int]
) -> tuple[Floats, Floats]:
    lengths = {len(row) for row in values} | {len(denominators), len(clusters)}
    if not values or len(lengths) > 1 or lengths == {0}:
        raise RecordError(f"an interval over {len(values)} seeds needs equally many values of each: {sorted(lengths)}")
    _, membership = np.unique(np.asarray(clusters), return_inverse=True)
    rows = [np.bincount(membership, weights=np.asarray(row, dtype=np.float64)) for row in values]
    bottom = np.bincount(membership, weights=np.asarray(denominators, dtype=np.float64))
    if not bottom.sum() > 0:
        raise RecordError(f"an interval needs denominators with a positive sum, not {bottom.sum()}")
    return np.stack(rows).astype(np.float64), bottom.astype(np.float64)
