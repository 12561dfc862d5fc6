"""The roofline: what each product reaches, under the ceilings that were measured on the same device in the same run."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lords_bench.records.latency import LatencyRecord
from lords_bench.records.measurement import Peaks
from lords_bench.report.latency.comparisons import Match
from lords_bench.report.latency.style import line_of
from lords_bench.report.svg import GRID, INK, MUTED, PAPER, draw
from lords_bench.spec.latency import DENSE, SUBJECT

HEIGHT_POINTS = 360
# More clouds of points than these hide each other; the others stand in the tables.
METHODS = (SUBJECT, DENSE, "nf-block", "bitsandbytes", "tinygemm")


def roofline(matches: Sequence[Match], peaks: Peaks, *, name: str) -> str:
    """TFLOP/s of the product against its operations per byte; an empty text where the peaks were not measured."""
    if peaks.memory_gbps is None or peaks.matmul_tflops is None:
        return ""
    points = {method: [p for match in matches if (p := _point(match.records.get(method)))] for method in METHODS}
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

    return draw(name, HEIGHT_POINTS, paint)


def reached(record: LatencyRecord) -> tuple[float, float] | None:
    """(GB/s, TFLOP/s) of a record by its median; None where the cost or the time is unknown."""
    if record.measurement is None or record.bytes_moved is None or record.flops is None:
        return None
    median_ns = record.measurement.median_ns
    return record.bytes_moved / median_ns, record.flops / median_ns / 1e3


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
