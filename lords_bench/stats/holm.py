"""Many benchmarks, one answer: p-values of runs of two sides, and Holm's correction over the family.

Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979): the chance
that any of the rejected hypotheses was true is at most alpha, whatever the tests have to do with each other.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats


def slower_p_value(subject: Sequence[float], baseline: Sequence[float]) -> float:
    """Chance of so large a difference between processes if the subject were no slower: Welch's t test, one-sided.

    Args:
        subject: one value per fresh process, such as the median log time.
        baseline: the same of the other side; at least two of each, else 1.
    """
    first, second = np.asarray(subject, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if min(len(first), len(second)) < 2:
        return 1.0
    if not first.std() and not second.std():
        return float(first.mean() <= second.mean())
    return float(stats.ttest_ind(first, second, equal_var=False, alternative="greater").pvalue)


def process_noise(subject: Sequence[float], baseline: Sequence[float]) -> float:
    """What the means of so many processes of two equal sides may differ by: 95 % half-width of Welch's interval.

    Shrinks with more processes; infinite where a side has fewer than two.
    """
    first, second = np.asarray(subject, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if min(len(first), len(second)) < 2:
        return float("inf")
    if not first.std() and not second.std():
        return 0.0
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return float(interval.high - interval.low) / 2


def rejected_by_holm(p_values: Mapping[str, float], *, alpha: float) -> frozenset[str]:
    """Names whose hypothesis is rejected with a family-wise error of at most `alpha`.

    Examples:
        >>> sorted(rejected_by_holm({"a": 0.01, "b": 0.04, "c": 0.03}, alpha=0.05))
        ['a']
    """
    found = set()
    ordered = sorted(p_values, key=lambda name: (p_values[name], name))
    for rank, name in enumerate(ordered):
        if p_values[name] > alpha / (len(ordered) - rank):
            break
        found.add(name)
    return frozenset(found)
