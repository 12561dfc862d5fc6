"""The four metrics of accuracy samples: an estimate with its interval, and the paired difference of two cases.

How a metric is called and shown is its page's business, and from when a loss counts is the gate's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

from lords_bench.records.accuracy import AccuracySamples
from lords_bench.stats.bootstrap import Interval, mean_interval, ratio_interval
from lords_bench.stats.paired import (
    PairedDifference,
    paired_mean_difference,
    paired_ratio_difference,
    paired_share_difference,
)

Read = Callable[[AccuracySamples], Sequence[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator:
    """How a metric is read from samples.

    Attributes:
        interval: estimate with interval, None where the samples hold none.
        difference: paired difference subject − baseline, None likewise.
    """

    interval: Callable[[AccuracySamples], Interval | None]
    difference: Callable[[AccuracySamples, AccuracySamples], PairedDifference | None]


def _ratio(values: Read, over: Read) -> Estimator:
    """The sum of values over the sum of what they are counted by; low is good."""

    def interval(samples: AccuracySamples) -> Interval:
        return ratio_interval(values(samples), over(samples), clusters=samples.window_documents)

    def difference(subject: AccuracySamples, baseline: AccuracySamples) -> PairedDifference:
        pair, documents = (values(subject), values(baseline)), subject.window_documents
        return paired_ratio_difference(*pair, over(subject), clusters=documents, lower_is_better=True)

    return Estimator(interval=interval, difference=difference)


def _weight_error(samples: AccuracySamples) -> Interval | None:
    return mean_interval(samples.layer_relative_errors) if samples.layer_names else None


def _weight_error_difference(subject: AccuracySamples, baseline: AccuracySamples) -> PairedDifference | None:
    if not subject.layer_names:
        return None
    errors = (subject.layer_relative_errors, baseline.layer_relative_errors)
    return paired_mean_difference(*errors, lower_is_better=True)


def _choice(samples: AccuracySamples) -> Interval | None:
    if not samples.choice_correct:
        return None
    return mean_interval([float(value) for value in samples.choice_correct], clusters=samples.choice_documents)


def _choice_difference(subject: AccuracySamples, baseline: AccuracySamples) -> PairedDifference | None:
    if not subject.choice_correct:
        return None
    return paired_share_difference(
        subject.choice_correct, baseline.choice_correct, clusters=subject.choice_documents, lower_is_better=False
    )


KL = _ratio(lambda samples: samples.window_kl_nats, lambda samples: samples.window_tokens)
BITS_PER_BYTE = _ratio(
    lambda samples: [nll / log(2) for nll in samples.window_nll_nats], lambda samples: samples.window_bytes
)
WEIGHT_ERROR = Estimator(interval=_weight_error, difference=_weight_error_difference)
CHOICE = Estimator(interval=_choice, difference=_choice_difference)
