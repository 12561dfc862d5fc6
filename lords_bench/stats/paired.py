"""Paired differences of two cases that saw the same windows, choice items and layers.

Pairing takes the difference item by item before resampling, so that what makes an item hard for both cancels; the
interval is usually several times narrower than the two separate ones suggest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum

from lords_bench.errors import RecordError
from lords_bench.stats.bootstrap import Interval, mean_interval, ratio_interval


class PairedVerdict(StrEnum):
    """What a paired difference says; `UNRESOLVED` whenever its interval contains 0."""

    BETTER = "better"
    WORSE = "worse"
    UNRESOLVED = "not resolved"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """Difference subject − baseline of one metric.

    Attributes:
        interval: the difference and its 95 % interval, in the metric's unit.
        baseline: the baseline's own value, the scale to judge the difference by.
        lower_is_better: whether a negative difference is a gain.
    """

    interval: Interval
    baseline: float
    lower_is_better: bool

    @property
    def outcome(self) -> PairedVerdict:
        """BETTER or WORSE where the interval excludes 0, else UNRESOLVED."""
        low, high = self.interval.low, self.interval.high
        if low is None or high is None or low <= 0 <= high:
            return PairedVerdict.UNRESOLVED
        return PairedVerdict.BETTER if (high < 0) == self.lower_is_better else PairedVerdict.WORSE

    @property
    def relative(self) -> Interval | None:
        """The difference as a share of the baseline's value; None where that is not positive."""
        return self.interval.scaled(1 / self.baseline) if self.baseline > 0 else None


def paired_ratio_difference(
    subject: Sequence[float],
    baseline: Sequence[float],
    denominators: Sequence[float],
    *,
    clusters: Sequence[int] = (),
    lower_is_better: bool,
) -> PairedDifference:
    """Σ(subject − baseline) / Σ denominators, item by item over the same items.

    Raises:
        RecordError: the lengths differ, or a denominator is not positive.
    """
    if len(subject) != len(baseline):
        raise RecordError(f"a paired difference needs the same items: {len(subject)} values against {len(baseline)}")
    differences = [a - b for a, b in zip(subject, baseline, strict=True)]
    interval = ratio_interval(differences, denominators, clusters=clusters)
    baseline_value = fsum(baseline) / fsum(denominators)
    return PairedDifference(interval=interval, baseline=baseline_value, lower_is_better=lower_is_better)


def paired_share_difference(
    subject: Sequence[bool], baseline: Sequence[bool], *, clusters: Sequence[int] = (), lower_is_better: bool
) -> PairedDifference:
    """Difference of two shares over the same yes-or-no items.

    Where few items differ, resampling them alone is too sure of itself: four items won and none lost would count as
    resolved, though the exact test of McNemar gives p = 0.125. So the interval (not the estimate) is taken with one
    item won and one lost added, in the manner of Agresti and Min, Statistics in Medicine 24 (2005); six to none is then
    the least that is resolved, as in the exact test.
    """
    first, second = [float(value) for value in subject], [float(value) for value in baseline]
    plain = paired_mean_difference(first, second, clusters=clusters, lower_is_better=lower_is_better)
    added = (max(clusters) + 1, max(clusters) + 2) if len(clusters) else ()
    differences = [a - b for a, b in zip(first, second, strict=True)]
    padded = mean_interval([*differences, 1.0, -1.0], clusters=(*clusters, *added))
    interval = Interval(estimate=plain.interval.estimate, low=padded.low, high=padded.high)
    return PairedDifference(interval=interval, baseline=plain.baseline, lower_is_better=lower_is_better)


def paired_mean_difference(
    subject: Sequence[float], baseline: Sequence[float], *, clusters: Sequence[int] = (), lower_is_better: bool
) -> PairedDifference:
    """Mean of subject − baseline over the same items; see `paired_ratio_difference`."""
    return paired_ratio_difference(
        subject, baseline, [1.0] * len(subject), clusters=clusters, lower_is_better=lower_is_better
    )
