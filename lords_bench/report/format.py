"""Numbers as text, the same in Markdown, HTML and terminal. A true minus sign; unknown is a dash."""

from math import floor, log10

from lords_bench.report.metrics import Metric
from lords_bench.stats import Interval, PairedDifference

UNKNOWN = "–"
MAX_DECIMALS = 5


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """Fixed decimals, a true minus, no negative zero, and a plus where asked."""
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def decimals_for(value: float, significant: int) -> int:
    """Decimals that show `significant` digits of the value, between 0 and `MAX_DECIMALS`."""
    if value == 0:
        return 1
    return min(MAX_DECIMALS, max(0, significant - 1 - floor(log10(abs(value)))))


def estimate(interval: Interval | None, metric: Metric) -> tuple[str, str]:
    """Estimate and `low … high` of a metric in its shown unit, without the unit."""
    if interval is None:
        return UNKNOWN, ""
    shown = interval.scaled(metric.factor)
    decimals = decimals_for(shown.estimate, metric.significant)
    return number(shown.estimate, decimals), span(shown, decimals)


def span(interval: Interval, decimals: int, *, sign: bool = False) -> str:
    """`low … high`, or a note that there is no interval."""
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{number(interval.low, decimals, sign=sign)} … {number(interval.high, decimals, sign=sign)}"


def difference(paired: PairedDifference | None, metric: Metric) -> tuple[str, str]:
    """Difference and its interval in the metric's shown unit, with sign."""
    if paired is None:
        return UNKNOWN, ""
    shown = paired.interval.scaled(metric.factor)
    width = max(abs(shown.low or 0.0), abs(shown.high or 0.0), abs(shown.estimate))
    decimals = decimals_for(width, 3 if metric.significant > 3 else 2)
    return number(shown.estimate, decimals, sign=True), span(shown, decimals, sign=True)


def relative(paired: PairedDifference) -> tuple[str, str]:
    """Difference as a percentage of the baseline, and its interval."""
    share = paired.relative
    if share is None:
        return UNKNOWN, ""
    percent = share.scaled(100)
    width = max(abs(percent.low or 0.0), abs(percent.high or 0.0), abs(percent.estimate))
    decimals = 1 if width < 10 else 0
    return f"{number(percent.estimate, decimals, sign=True)} %", f"{span(percent, decimals, sign=True)} %"


def bits(value: float | None) -> str:
    """Bits per weight with three decimals."""
    return UNKNOWN if value is None else number(value, 3)


def listing(items: list[str] | tuple[str, ...]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def seconds(value: float) -> str:
    """A duration for people: `4.2 s`, `3 min 20 s`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
