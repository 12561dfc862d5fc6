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
        threshold: relative difference above which a resolved loss is a regression; None = a loss only warns.
        difference: of head and baseline, None where a case does not have the metric.
    """

    name: str
    threshold: float | None
    difference: Difference


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
    if len(head.layer_names) < 2:
        return None
    return paired_mean_difference(head.layer_relative_errors, base.layer_relative_errors, lower_is_better=True)


def _choice(head: AccuracySamples, base: AccuracySamples) -> PairedDifference | None:
    if not head.choice_correct:
        return None
    return paired_share_difference(
        head.choice_correct, base.choice_correct, clusters=head.choice_documents, lower_is_better=False
    )


METRICS = (
    GatedMetric(name="KL", threshold=0.02, difference=_kl),
    GatedMetric(name="bits per byte", threshold=0.002, difference=_bits_per_byte),
    GatedMetric(name="weight error", threshold=0.01, difference=_weight_error),
    GatedMetric(name="choice accuracy", threshold=None, difference=_choice),
)
