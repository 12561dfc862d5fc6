"""The four accuracy metrics: how each is read from samples, compared pair by pair, and shown.

KL to the unquantized model is the primary one: it resolves methods that bits per byte and choice accuracy cannot.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from types import MappingProxyType
from typing import Any

from lords_bench.records import AccuracySamples
from lords_bench.report import format as fmt
from lords_bench.stats import (
    Interval,
    PairedDifference,
    mean_interval,
    paired_mean_difference,
    paired_ratio_difference,
    paired_share_difference,
    ratio_interval,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric of an accuracy case.

    Attributes:
        label: column heading.
        meaning: one sentence for the reader.
        factor: the shown value is the metric times this.
        unit: unit of the shown value.
        interval: estimate with interval, None where the samples hold none.
        difference: paired difference subject − baseline, None likewise.
        significant: digits shown of the estimate.
        difference_unit: unit of a shown difference.
    """

    label: str
    meaning: str
    factor: float
    unit: str
    interval: Callable[[AccuracySamples], Interval | None]
    difference: Callable[[AccuracySamples, AccuracySamples], PairedDifference | None]
    significant: int = 3
    difference_unit: str = ""


def _weight_error(samples: AccuracySamples) -> Interval | None:
    return mean_interval(samples.layer_relative_errors) if samples.layer_names else None


def _weight_error_difference(subject: AccuracySamples, baseline: AccuracySamples) -> PairedDifference | None:
    if not subject.layer_names:
        return None
    errors = (subject.layer_relative_errors, baseline.layer_relative_errors)
    return paired_mean_difference(*errors, lower_is_better=True)


Read = Callable[[AccuracySamples], Sequence[float]]


def _ratio(values: Read, over: Read) -> dict[str, Any]:
    """Interval and paired difference of the sum of values over the sum of what they are counted by; low is good."""

    def interval(samples: AccuracySamples) -> Interval:
        return ratio_interval(values(samples), over(samples), clusters=samples.window_documents)

    def difference(subject: AccuracySamples, baseline: AccuracySamples) -> PairedDifference:
        pair, documents = (values(subject), values(baseline)), subject.window_documents
        return paired_ratio_difference(*pair, over(subject), clusters=documents, lower_is_better=True)

    return {"interval": interval, "difference": difference}


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


METRICS: MappingProxyType[str, Metric] = MappingProxyType(
    {
        "kl": Metric(
            label="KL ×1000",
            meaning="Kullback-Leibler divergence of the next-token distribution from the unquantized model's, in "
            "thousandths of a nat per token. The primary metric; lower is better.",
            factor=1000.0,
            unit="10⁻³ nat/token",
            **_ratio(lambda samples: samples.window_kl_nats, lambda samples: samples.window_tokens),
        ),
        "weight_error": Metric(
            label="Weight error",
            meaning="Squared error of a layer's weights relative to their squared norm, mean over layers. "
            "Lower is better.",
            factor=100.0,
            unit="%",
            interval=_weight_error,
            difference=_weight_error_difference,
            difference_unit="(points)",
        ),
        "bits_per_byte": Metric(
            label="Bits per byte",
            meaning="Negative log-likelihood of held-out text in bits per byte of UTF-8. Lower is better.",
            factor=1.0,
            unit="",
            **_ratio(
                lambda samples: [nll / log(2) for nll in samples.window_nll_nats], lambda samples: samples.window_bytes
            ),
            significant=5,
        ),
        "choice": Metric(
            label="Choice accuracy",
            meaning="Share of multiple-choice items answered rightly. Higher is better.",
            factor=100.0,
            unit="%",
            interval=_choice,
            difference=_choice_difference,
            difference_unit="(points)",
        ),
    }
)
PRIMARY = "kl"


def estimate(interval: Interval | None, metric: Metric) -> tuple[str, str]:
    """Estimate and `low … high` of a metric in its shown unit, without the unit."""
    if interval is None:
        return fmt.UNKNOWN, ""
    shown = interval.scaled(metric.factor)
    decimals = fmt.decimals_for(shown.estimate, metric.significant)
    return fmt.number(shown.estimate, decimals), fmt.span(shown, decimals)


def difference(paired: PairedDifference | None, metric: Metric) -> tuple[str, str]:
    """Difference and its interval in the metric's shown unit, with sign."""
    if paired is None:
        return fmt.UNKNOWN, ""
    shown = paired.interval.scaled(metric.factor)
    width = max(abs(shown.low or 0.0), abs(shown.high or 0.0), abs(shown.estimate))
    decimals = fmt.decimals_for(width, 3 if metric.significant > 3 else 2)
    return fmt.number(shown.estimate, decimals, sign=True), fmt.span(shown, decimals, sign=True)


def relative(paired: PairedDifference) -> tuple[str, str]:
    """Difference as a percentage of the baseline, and its interval."""
    share = paired.relative
    if share is None:
        return fmt.UNKNOWN, ""
    percent = share.scaled(100)
    width = max(abs(percent.low or 0.0), abs(percent.high or 0.0), abs(percent.estimate))
    decimals = 1 if width < 10 else 0
    return f"{fmt.number(percent.estimate, decimals, sign=True)} %", f"{fmt.span(percent, decimals, sign=True)} %"
