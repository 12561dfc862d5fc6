"""Numbers as text, the same in Markdown, HTML and terminal. A true minus sign; unknown is a dash."""

from math import floor, log10

from lords_bench.stats import Interval

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


def span(interval: Interval, decimals: int, *, sign: bool = False) -> str:
    """`low … high`, or a note that there is no interval."""
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{number(interval.low, decimals, sign=sign)} … {number(interval.high, decimals, sign=sign)}"


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
