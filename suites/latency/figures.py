"""The figures of the device report: speed-up by M and layer, latency against M, share of shapes, roofline.

LoRDS has the strongest colour, and every baseline keeps its own in every figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, log, log2
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lords_bench.records.latency import DENSE, DENSE_AGAIN, SUBJECT, LatencyRecord, method_label
from lords_bench.records.measurement import Peaks
from lords_bench.report.format import number
from lords_bench.report.svg import FASTER, GRID, INK, MUTED, PAPER, ROLES, SLOWER, WIDTH_POINTS, draw, spread
from lords_bench.stats.verdict import Judgement, Verdict
from lords_bench.suites.latency.judge import Match, Summary, reached
from lords_bench.text import one_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """How a method is drawn."""

    role: str
    dash: str
    marker: str

    @property
    def color(self) -> str:
        """The colour to draw with."""
        return ROLES[self.role].drawn


_LINES: Mapping[str, Line] = MappingProxyType(
    {
        "lords": Line(role="low-rank", dash="-", marker="o"),
        "dense": Line(role="absmax", dash="-", marker="s"),
        "nf-block": Line(role="mixed", dash="-", marker="^"),
        "nf-dequantize": Line(role="mixed", dash="--", marker="v"),
        "int-block": Line(role="affine", dash="-", marker="^"),
        "tinygemm": Line(role="affine", dash="--", marker="D"),
        "gemlite": Line(role="affine", dash=":", marker="P"),
        "bitsandbytes": Line(role="optimised", dash="-", marker="D"),
        "bitsandbytes-dequantize": Line(role="optimised", dash="--", marker="v"),
        "qlora-fused": Line(role="qlora", dash="-", marker="^"),
        "qlora-peft": Line(role="qlora", dash="--", marker="v"),
        "qlora-merged": Line(role="qlora", dash=":", marker="P"),
    }
)


def line_of(method: str) -> Line:
    """A method's line; a LoRDS kernel by itself has LoRDS' colour, dotted."""
    return _LINES.get(method, Line(role="low-rank", dash=":", marker="."))


# A factor of four or more has the full colour.
FULL_COLOUR_LOG2 = 2.0
_HEAT_ROW, _HEAT_HEAD, _HEAT_FOOT, _HEAT_LABELS, _HEAT_GAP = 19.0, 24.0, 26.0, 172.0, 22.0
_LEAST_CELL = 30.0
# More panels beside each other have no room for their titles.
MOST_COLUMNS = 2


def heatmap(matches: Sequence[Match], baselines: Sequence[str], *, name: str) -> str:
    """One panel per baseline with any judged cell; an empty text where there is none."""
    shown = [baseline for baseline in baselines if any(baseline in match.judgements for match in matches)]
    layers = list(dict.fromkeys(_layer(match) for match in matches))
    ladder = sorted({match.case.m for match in matches})
    if not shown:
        return ""
    room = WIDTH_POINTS - _HEAT_LABELS
    columns = max(1, min(len(shown), MOST_COLUMNS, int((room + _HEAT_GAP) // (_LEAST_CELL * len(ladder) + _HEAT_GAP))))
    rows = ceil(len(shown) / columns)
    panel_height = _HEAT_HEAD + _HEAT_ROW * len(layers) + _HEAT_FOOT
    height = rows * panel_height + 4

    def paint(figure: Figure) -> None:
        width = (room - _HEAT_GAP * (columns - 1)) / columns
        for index, baseline in enumerate(shown):
            row, column = divmod(index, columns)
            left = _HEAT_LABELS + column * (width + _HEAT_GAP)
            bottom = height - row * panel_height - _HEAT_HEAD - _HEAT_ROW * len(layers)
            axes = figure.add_axes(
                (left / WIDTH_POINTS, bottom / height, width / WIDTH_POINTS, _HEAT_ROW * len(layers) / height)
            )
            _heat_panel(axes, matches, baseline, layers, ladder, names=column == 0)
            title = f"against {method_label(baseline)}"
            figure.text(
                left / WIDTH_POINTS, (bottom + _HEAT_ROW * len(layers) + 7) / height, _fit(title, width), fontsize=10.5,
                fontweight="bold",
            )  # fmt: skip

    return draw(name, height, paint)


def _heat_panel(
    axes: Axes, matches: Sequence[Match], baseline: str, layers: list[str], ladder: list[int], *, names: bool
) -> None:
    cells = {(_layer(match), match.case.m): match for match in matches}
    for y, layer in enumerate(layers):
        for x, m in enumerate(ladder):
            match = cells.get((layer, m))
            _heat_cell(axes, x, y, match.judgements.get(baseline) if match is not None else None)
    axes.set_xlim(0, len(ladder))
    axes.set_ylim(len(layers), 0)
    axes.set_xticks([x + 0.5 for x in range(len(ladder))], [str(m) for m in ladder])
    axes.set_yticks([y + 0.5 for y in range(len(layers))], [one_line(layer) for layer in layers] if names else [])
    axes.tick_params(length=0, labelsize=9.5)
    axes.set_xlabel("M", fontsize=9.5, labelpad=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _heat_cell(axes: Axes, x: int, y: int, judgement: Judgement | None) -> None:
    """Colour and number; hatched unless FASTER or SLOWER; a dash where there is no ratio."""
    speedup = judgement.speedup if judgement is not None else None
    corner, size = (x + 0.03, y + 0.06), (0.94, 0.88)
    if judgement is None or speedup is None:
        axes.add_patch(Rectangle(corner, *size, facecolor="none", edgecolor=GRID, linewidth=0.8))
        axes.text(x + 0.5, y + 0.52, "–", ha="center", va="center", fontsize=9, color=MUTED)
        return
    strength = min(1.0, abs(log2(speedup)) / FULL_COLOUR_LOG2)
    colour = FASTER if speedup > 1 else SLOWER
    axes.add_patch(Rectangle(corner, *size, facecolor=colour, edgecolor="none", alpha=round(0.12 + 0.58 * strength, 3)))
    if judgement.verdict not in (Verdict.FASTER, Verdict.SLOWER):
        axes.add_patch(
            Rectangle(corner, *size, facecolor="none", edgecolor=MUTED, hatch="////", linewidth=0, alpha=0.55)
        )
        axes.add_patch(Rectangle((x + 0.16, y + 0.2), 0.68, 0.6, facecolor=PAPER, edgecolor="none", alpha=0.75))
    text = number(speedup, 0 if speedup >= 100 else 1 if speedup >= 10 else 2)
    axes.text(x + 0.5, y + 0.52, text, ha="center", va="center", fontsize=8.6, color=INK)


def _layer(match: Match) -> str:
    return match.layer.replace("_proj", "")


def _fit(text: str, width_points: float) -> str:
    """Shortened with an ellipsis to about the width at 10.5 points."""
    most = max(8, int(width_points / 6.3))
    return text if len(text) <= most else f"{text[: most - 1]}…"


_CURVE_PANEL, _CURVE_HEAD, _CURVE_FOOT, _CURVE_LEFT, _CURVE_LABELS, _CURVE_GAP = 200.0, 22.0, 38.0, 46.0, 128.0, 10.0
_CURVE_COLUMNS = 2


def curves(matches: Sequence[Match], *, name: str) -> str:
    """Median latency against M, both logarithmic; an empty text where fewer than two M were timed."""
    panels: dict[str, list[Match]] = {}
    for match in sorted(matches, key=lambda match: match.case.m):
        panels.setdefault(match.layer, []).append(match)
    panels = {title: found for title, found in panels.items() if len(found) > 1 and _methods(found)}
    if not panels:
        return ""
    rows = ceil(len(panels) / _CURVE_COLUMNS)
    each = _CURVE_HEAD + _CURVE_PANEL + _CURVE_FOOT
    height = rows * each

    def paint(figure: Figure) -> None:
        width = (WIDTH_POINTS - _CURVE_GAP * (_CURVE_COLUMNS - 1)) / _CURVE_COLUMNS
        for index, (title, found) in enumerate(panels.items()):
            row, column = divmod(index, _CURVE_COLUMNS)
            left = column * (width + _CURVE_GAP) + _CURVE_LEFT
            bottom = height - row * each - _CURVE_HEAD - _CURVE_PANEL
            axes = figure.add_axes(
                (
                    left / WIDTH_POINTS,
                    bottom / height,
                    (width - _CURVE_LEFT - _CURVE_LABELS) / WIDTH_POINTS,
                    _CURVE_PANEL / height,
                )
            )
            case = found[0].case
            shown = f"{title} ({case.n}×{case.k})".replace("_proj", "")
            axes.set_title(shown, fontsize=10.5, fontweight="bold", loc="left", x=-0.16)
            _curve_panel(axes, found)

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


def _curve_panel(axes: Axes, found: Sequence[Match]) -> None:
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
    _curve_scale(axes, [match.case.m for match in found], values)
    _curve_label(axes, ends)


def _curve_scale(axes: Axes, ladder: Sequence[int], values: Sequence[float]) -> None:
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


def _curve_label(axes: Axes, ends: Sequence[tuple[str, float]]) -> None:
    """Names right of the last points, moved apart so that none overlap."""
    low, high = (log(value) for value in axes.get_ylim())
    placed = spread([(log(value) - low) / (high - low) * _CURVE_PANEL for _, value in ends], gap=11.5)
    for (method, _), y in zip(ends, placed, strict=True):
        axes.text(
            1.03, y / _CURVE_PANEL, method, transform=axes.transAxes, color=line_of(method).color, fontsize=9.2,
            va="center_baseline", fontweight="bold" if method == SUBJECT else "normal",
        )  # fmt: skip


SHARE_POINTS = 300.0


def share_plot(summaries: Sequence[Summary], *, name: str) -> str:
    """Empirical distribution of the speed-up against each baseline; an empty text where nothing was judged."""
    shown = [summary for summary in summaries if len(summary.valid) > 1]
    if not shown:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.075, 0.15, 0.685, 0.8))
        for summary in shown:
            _share_step(axes, summary)
        _share_scale(axes, [speedup for summary in shown for _, _, speedup in summary.valid])
        axes.text(1.02, 0.97, "slower on", transform=axes.transAxes, fontsize=9.8, color=MUTED)
        ordered = sorted(shown, key=lambda summary: summary.geomean or 0.0, reverse=True)
        for row, summary in enumerate(ordered):
            text = f"{summary.baseline} {summary.count(Verdict.SLOWER)} of {len(summary.valid)}"
            color = line_of(summary.baseline).color
            axes.text(1.02, 0.9 - 0.068 * row, text, transform=axes.transAxes, fontsize=9.8, color=color)

    return draw(name, SHARE_POINTS, paint)


def _share_step(axes: Axes, summary: Summary) -> None:
    line = line_of(summary.baseline)
    values = sorted(speedup for _, _, speedup in summary.valid)
    shares = [(index + 1) / len(values) for index in range(len(values))]
    axes.step([values[0], *values], [0.0, *shares], where="post", color=line.color, linestyle=line.dash, linewidth=1.6)


def _share_scale(axes: Axes, values: Sequence[float]) -> None:
    low, high = min([*values, 0.9]) / 1.1, max([*values, 1.1]) * 1.1
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.02)
    axes.axvspan(low, 1, color=SLOWER, alpha=0.08, linewidth=0)
    axes.axvline(1, color=MUTED, linewidth=1.4)
    ticks = [value for value in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8, 16, 32) if low <= value <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.tick_params(length=0)
    axes.set_xlabel("speed-up of LoRDS; left of the line it is slower")
    axes.set_ylabel("share of shapes at most so fast")


ROOFLINE_POINTS = 360
# More clouds of points than these hide each other; the others stand in the tables.
ROOFLINE_METHODS = (SUBJECT, DENSE, "nf-block", "bitsandbytes", "tinygemm")


def roofline(matches: Sequence[Match], peaks: Peaks, *, name: str) -> str:
    """TFLOP/s of the product against its operations per byte; an empty text where the peaks were not measured."""
    if peaks.memory_gbps is None or peaks.matmul_tflops is None:
        return ""
    points = {
        method: [p for match in matches if (p := _point(match.records.get(method)))] for method in ROOFLINE_METHODS
    }
    points = {method: found for method, found in points.items() if found}
    if not points:
        return ""
    bandwidth, top = peaks.memory_gbps, peaks.matmul_tflops

    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.075, 0.125, 0.765, 0.84))
        _ceilings(axes, points, bandwidth, top)
        for method in reversed(points):
            line = line_of(method)
            axes.plot(
                [x for x, _ in points[method]], [y for _, y in points[method]], linestyle="none", marker=line.marker,
                markersize=5.5 if method == SUBJECT else 4.2, color=line.color, markeredgewidth=1.1,
                markerfacecolor=line.color if method == SUBJECT else PAPER, zorder=4 if method == SUBJECT else 3,
            )  # fmt: skip
        for row, method in enumerate(points):
            y = 0.9 - 0.06 * row
            line = line_of(method)
            axes.plot([1.03], [y + 0.008], transform=axes.transAxes, clip_on=False, marker=line.marker, markersize=5,
                      color=line.color, markerfacecolor=line.color if method == SUBJECT else PAPER)  # fmt: skip
            axes.text(1.05, y, method, transform=axes.transAxes, color=line.color, fontsize=10)

    return draw(name, ROOFLINE_POINTS, paint)


def _point(record: LatencyRecord | None) -> tuple[float, float] | None:
    speeds = reached(record) if record is not None else None
    if record is None or speeds is None or not record.flops or not record.bytes_moved:
        return None
    return record.flops / record.bytes_moved, speeds[1]


def _ceilings(axes: Axes, points: dict[str, list[tuple[float, float]]], bandwidth: float, top: float) -> None:
    xs = [x for found in points.values() for x, _ in found]
    ys = [y for found in points.values() for _, y in found]
    left, right, ridge = min(xs) / 1.6, max(*xs, top * 1e3 / bandwidth) * 1.6, top * 1e3 / bandwidth
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min(ys) / 1.8, top * 1.9)
    axes.fill_between(
        [left, ridge, right], [left * bandwidth / 1e3, top, top], [top * 10] * 3, color=GRID, alpha=0.5, linewidth=0
    )
    axes.plot([left, ridge, right], [left * bandwidth / 1e3, top, top], color=INK, linewidth=1.4)
    axes.text(right, top * 1.12, f"measured bf16 matmul {top:,.0f} TFLOP/s ", ha="right", fontsize=10, color=MUTED)
    start = left * 1.15
    axes.text(start, start * bandwidth / 1e3 * 15, f"measured memory {bandwidth:,.0f} GB/s", fontsize=10, color=MUTED)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(length=0, which="both")
    axes.set_xlabel("operations of the product per byte that a cold launch must move")
    axes.set_ylabel("TFLOP/s")
