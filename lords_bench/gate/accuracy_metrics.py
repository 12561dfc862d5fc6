"""What the accuracy layer compares: each metric, how it is paired, and from when a loss counts."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

from lords_bench.records.accuracy import AccuracySamples
from lords_bench.stats.paired import (
    PairedDifference,
    paired_mean_difference,
    paired_ratio_difference,
    paired_share_difference,
)

Difference = Callable[[AccuracySamples, AccuracySamples], PairedDifference | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedMetric:
    """A metric that can fail the gate.

    Attributes:
        threshold: a mean that is worse by more is a regression, whatever its interval.
        most_gain: a mean that is better by more is not believed: no change of code under one specification explains it.
        is_relative: whether both are shares of the baseline's value; else they are in the metric's own unit.
        warns: whether a resolved loss below the threshold is a warning; else it is a note.
        difference: of head and baseline, None where a case does not have the metric.
    """

    name: str
    threshold: float
    most_gain: float
    is_relative: bool = True
    warns: bool = False
    difference: Difference

    def loss(self, difference: PairedDifference) -> float | None:
        """How much worse the mean is, in the unit of the threshold; None as a share of a baseline that is 0."""
        moved = difference.relative if self.is_relative else difference.interval
        if moved is None:
            return None
        return moved.estimate if difference.lower_is_better else -moved.estimate

    def limit(self, value: float) -> str:
        """A threshold in words."""
        return f"{value:.1%}" if self.is_relative else f"{value:g}"


def _kl(head: AccuracySamples, base: AccuracySamples) -> PairedDifference | None:
    return paired_ratio_difference(
        head.window_kl_nats,
        base.window_kl_nats,
        head.window_tokens,
        clusters=head.window_documents,
        lower_is_better=True,
    )


def _bits_per_byte(head: AccuracySamples, base: AccuracySamples) -> PairedDifference | None:
    return paired_ratio_difference(
        [value / log(2) for value in head.window_nll_nats],
        [value / log(2) for value in base.window_nll_nats],
        head.window_bytes,
        clusters=head.window_documents,
        lower_is_better=True,
    )


def _weight_error(head: AccuracySamples, base: AccuracySamples) -> PairedDifference | None:
    if not head.layer_names:
        return None
    return paired_mean_difference(head.layer_relative_errors, base.layer_relative_errors, lower_is_better=True)


def _choice(head: AccuracySamples, base: AccuracySamples) -> PairedDifference | None:
    if not head.choice_correct:
        return None
    return paired_share_difference(
        head.choice_correct, base.choice_correct, clusters=head.choice_documents, lower_is_better=False
    )


# What a change of code under one specification has ever gained here is a few percent; a gain of ten thresholds is more
# often a measurement that broke.
METRICS = (
    GatedMetric(name="KL", threshold=0.02, most_gain=0.2, difference=_kl),
    GatedMetric(name="bits per byte", threshold=0.002, most_gain=0.02, difference=_bits_per_byte),
    GatedMetric(name="weight error", threshold=0.01, most_gain=0.1, difference=_weight_error),
    # A tenth of the items: three times what as many near ties as there are (one in ten) scatter by.
    GatedMetric(
        name="choice accuracy", threshold=0.1, most_gain=0.1, is_relative=False, warns=True, difference=_choice
    ),
)
