"""Latency against M: one panel per layer, a band from quartile to quartile, and the M where LoRDS and dense cross."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, exp, log

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lords_bench.report.latency.comparisons import Match
from lords_bench.report.latency.style import line_of
from lords_bench.report.svg import MUTED, WIDTH_POINTS, draw, spread
from lords_bench.spec.latency import DENSE, DENSE_AGAIN, SUBJECT

_PANEL, _HEAD, _FOOT, _LEFT, _LABELS, _GAP = 200.0, 22.0, 38.0, 46.0, 128.0, 10.0
_COLUMNS = 2


def curves(matches: Sequence[Match], *, name: str) -> str:
    """Median latency against M, both logarithmic; an empty text where fewer than two M were timed."""
    panels: dict[str, list[Match]] = {}
    for match in sorted(matches, key=lambda match: match.case.m):
        panels.setdefault(f"{match.case.model} {match.case.layer}", []).append(match)
    panels = {title: found for title, found in panels.items() if len(found) > 1 and _methods(found)}
    if not panels:
        return ""
    rows = ceil(len(panels) / _COLUMNS)
    each = _HEAD + _PANEL + _FOOT
    height = rows * each

    def paint(figure: Figure) -> None:
        width = (WIDTH_POINTS - _GAP * (_COLUMNS - 1)) / _COLUMNS
        for index, (title, found) in enumerate(panels.items()):
            row, column = divmod(index, _COLUMNS)
            left = column * (width + _GAP) + _LEFT
            bottom = height - row * each - _HEAD - _PANEL
            axes = figure.add_axes(
                (left / WIDTH_POINTS, bottom / height, (width - _LEFT - _LABELS) / WIDTH_POINTS, _PANEL / height)
            )
            case = found[0].case
            shown = f"{title} ({case.n}×{case.k})".replace("_proj", "")
            axes.set_title(shown, fontsize=10.5, fontweight="bold", loc="left", x=-0.16)
            _panel(axes, found)

    return draw(name, height, paint)


def crossings(matches: Sequence[Match], first: str = SUBJECT, second: str = DENSE) -> tuple[float, ...]:
    """M at which the medians of the two methods cross, interpolated between timed M on log scales, in order."""
    points = [
        (match.case.m, log(a) - log(b))
        for match in sorted(matches, key=lambda match: match.case.m)
        if (a := match.median_ns(first)) is not None and (b := match.median_ns(second)) is not None
    ]
    found = []
    for (m0, d0), (m1, d1) in pairwise(points):
        if d0 * d1 < 0:
            found.append(exp(log(m0) + (log(m1) - log(m0)) * d0 / (d0 - d1)))
    return tuple(found)


def _methods(found: Sequence[Match]) -> list[str]:
    names = dict.fromkeys(method for match in found for method in match.records if method != DENSE_AGAIN)
    return [name for name in names if any(match.median_ns(name) is not None for match in found)]


def _panel(axes: Axes, found: Sequence[Match]) -> None:
    ends: list[tuple[str, float]] = []
    values: list[float] = []
    for method in reversed(_methods(found)):
        timed = [
            (match.case.m, record.measurement)
            for match in found
            if (record := match.records.get(method)) is not None and record.measurement is not None
        ]
        line, m = line_of(method), [m for m, _ in timed]
        middle = [measured.median_ns / 1e3 for _, measured in timed]
        low, high = [measured.q1_ns / 1e3 for _, measured in timed], [measured.q3_ns / 1e3 for _, measured in timed]
        is_subject = method == SUBJECT
        axes.fill_between(m, low, high, color=line.color, alpha=0.18, linewidth=0)
        axes.plot(
            m, middle, color=line.color, linestyle=line.dash, marker=line.marker, markersize=4.5 if is_subject else 3.2,
            linewidth=2.4 if is_subject else 1.2, zorder=4 if is_subject else 3,
        )  # fmt: skip
        ends.append((method, middle[-1]))
        values += [*middle, *low, *high]
    for crossing in crossings(found):
        axes.axvline(crossing, color=MUTED, linewidth=1.0, linestyle=":")
        axes.text(
            crossing, 0.985, f" M ≈ {crossing:.0f}", transform=axes.get_xaxis_transform(), fontsize=9, color=MUTED,
            va="top",
        )  # fmt: skip
    _scale(axes, [match.case.m for match in found], values)
    _label(axes, ends)


def _scale(axes: Axes, ladder: Sequence[int], values: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.3, max(values) * 1.5)
    shown = ladder if len(ladder) <= 8 else ladder[::2]
    axes.xaxis.set_major_locator(FixedLocator([float(m) for m in shown]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("M (tokens)", fontsize=9.5, labelpad=1)
    axes.tick_params(length=0, labelsize=9)


def _time(value_us: float) -> str:
    """A tick: `10 µs`, `1 ms`."""
    value, unit = (
        (value_us, "µs") if value_us < 1e3 else (value_us / 1e3, "ms") if value_us < 1e6 else (value_us / 1e6, "s")
    )
    return f"{value:g} {unit}"


def _label(axes: Axes, ends: Sequence[tuple[str, float]]) -> None:
    """Names right of the last points, moved apart so that none overlap."""
    low, high = (log(value) for value in axes.get_ylim())
    placed = spread([(log(value) - low) / (high - low) * _PANEL for _, value in ends], gap=11.5)
    for (method, _), y in zip(ends, placed, strict=True):
        axes.text(
            1.03, y / _PANEL, method, transform=axes.transAxes, color=line_of(method).color, fontsize=9.2,
            va="center_baseline", fontweight="bold" if method == SUBJECT else "normal",
        )  # fmt: skip
