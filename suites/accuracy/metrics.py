"""The four accuracy metrics: what each is called, and how it is shown.

KL to the unquantized model is the primary one: it resolves methods that bits per byte and choice accuracy cannot.
"""

from dataclasses import dataclass
from types import MappingProxyType

from lords_bench.report import format as fmt
from lords_bench.stats import Interval, PairedDifference
from lords_bench.stats.accuracy import BITS_PER_BYTE, CHOICE, KL, WEIGHT_ERROR, Estimator


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric of an accuracy case.

    Attributes:
        label: column heading.
        meaning: one sentence for the reader.
        factor: the shown value is the metric times this.
        unit: unit of the shown value.
        estimator: its estimate and paired difference.
        significant: digits shown of the estimate.
        difference_unit: unit of a shown difference.
    """

    label: str
    meaning: str
    factor: float
    unit: str
    estimator: Estimator
    significant: int = 3
    difference_unit: str = ""


METRICS: MappingProxyType[str, Metric] = MappingProxyType(
    {
        "kl": Metric(
            label="KL ×1000",
            meaning="Kullback-Leibler divergence of the next-token distribution from the unquantized model's, in "
            "thousandths of a nat per token. The primary metric; lower is better.",
            factor=1000.0,
            unit="10⁻³ nat/token",
            estimator=KL,
        ),
        "weight_error": Metric(
            label="Weight error",
            meaning="Squared error of a layer's weights relative to their squared norm, mean over layers. "
            "Lower is better.",
            factor=100.0,
            unit="%",
            estimator=WEIGHT_ERROR,
            difference_unit="(points)",
        ),
        "bits_per_byte": Metric(
            label="Bits per byte",
            meaning="Negative log-likelihood of held-out text in bits per byte of UTF-8. Lower is better.",
            factor=1.0,
            unit="",
            estimator=BITS_PER_BYTE,
            significant=5,
        ),
        "choice": Metric(
            label="Choice accuracy",
            meaning="Share of multiple-choice items answered rightly. Higher is better.",
            factor=100.0,
            unit="%",
            estimator=CHOICE,
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
