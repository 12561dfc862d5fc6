"""The bits–KL figure: what each stored bit buys, for every method, on one page."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lords_bench.report.metrics import METRICS, PRIMARY
from lords_bench.report.style import mark_of
from lords_bench.report.svg import GRID, MUTED, PAPER, draw, spread
from lords_bench.report.tables import BitsGroup, Row
from lords_bench.stats import Interval

# Above this many series, variants of a method are drawn small and without a label.
MAX_LABELLED = 16
HEIGHT_POINTS = 460
# KL × 1000 is drawn no lower than this, because the axis is logarithmic.
LEAST_KL = 1e-3


def pareto_plot(groups: Sequence[BitsGroup], *, name: str) -> str:
    """Measured bits per weight against KL (log), one line per method, labelled at its low-bit end."""
    series = _series([row for group in groups for row in group.rows if row.record.complete])
    if not series:
        return ""
    labelled = _labelled(series)
    return draw(name, HEIGHT_POINTS, lambda figure: _pareto(figure, series, labelled))


def _series(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by method (`nf4`, `nf3`, `nf2` are one), from few bits to many; order of first bits, then KL."""
    series: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.bits_per_weight or 0.0, row.kl, row.record.case_id)):
        series.setdefault(_series_name(row), []).append(row)
    return series


def _series_name(row: Row) -> str:
    spec = row.record.spec
    return "nf" if spec is not None and row.record.method == f"nf{spec.bits}" else row.record.method


def _labelled(series: dict[str, list[Row]]) -> set[str]:
    if len(series) <= MAX_LABELLED:
        return set(series)
    presets = {name for name, rows in series.items() if rows[0].record.spec and rows[0].record.spec.method == name}
    return presets | {"nf", "lords-learned", "block-opt-learned"} & set(series)


def _pareto(figure: Figure, series: dict[str, list[Row]], labelled: set[str]) -> None:
    axes = figure.add_axes((0.055, 0.095, 0.935, 0.865))
    rows = [row for members in series.values() for row in members]
    _scale_pareto(axes, rows)
    _frontier(axes, rows)
    for name, members in series.items():
        mark = mark_of(members[0].record)
        for row in members:
            estimate = row.intervals[PRIMARY]
            if estimate is not None:
                _point(axes, row, estimate.scaled(METRICS[PRIMARY].factor), is_small=name not in labelled)
        for line in _lines(members) if name in labelled else ():
            x, y = [row.bits_per_weight or 0.0 for row in line], [_shown_kl(row) for row in line]
            axes.plot(x, y, color=mark.color, linewidth=1.2, alpha=0.55, zorder=2)
    _label_ends(axes, {name: series[name][0] for name in series if name in labelled})


def _lines(members: Sequence[Row]) -> list[list[Row]]:
    """Cases of one method joined by a line: those of equal block size."""
    by_block: dict[int | None, list[Row]] = {}
    for row in members:
        by_block.setdefault(row.record.spec.block if row.record.spec else None, []).append(row)
    return list(by_block.values())


def _shown_kl(row: Row) -> float:
    return max(row.kl * METRICS[PRIMARY].factor, LEAST_KL)


def _scale_pareto(axes: Axes, rows: Sequence[Row]) -> None:
    bits = [row.bits_per_weight or 0.0 for row in rows]
    values = [_shown_kl(row) for row in rows]
    axes.set_yscale("log")
    axes.set_xlim(min(bits) - 0.62, max(bits) + 0.12)
    axes.set_ylim(min(values) / 1.35, max(values) * 1.35)
    ticks = [m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5)]
    axes.yaxis.set_major_locator(FixedLocator([t for t in ticks if min(values) / 1.35 <= t <= max(values) * 1.35]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("measured bits per quantized weight")
    axes.text(
        0.0, 1.005, "KL to the unquantized model ×1000 (log scale, lower is better)",
        transform=axes.transAxes, color=MUTED, fontsize=11, va="bottom",
    )  # fmt: skip
    axes.grid(axis="x", visible=False)
    axes.tick_params(length=0)


def _frontier(axes: Axes, rows: Sequence[Row]) -> None:
    """A broad pale stair: the lowest KL that any case reaches with at most so many bits."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.bits_per_weight or 0.0, row.kl)):
        if not front or row.kl < front[-1].kl:
            front.append(row)
    x, y = [row.bits_per_weight or 0.0 for row in front], [_shown_kl(row) for row in front]
    axes.step([*x, axes.get_xlim()[1]], [*y, y[-1]], where="post", color=GRID, linewidth=7, zorder=1)


def _point(axes: Axes, row: Row, kl: Interval, *, is_small: bool) -> None:
    mark, bits = mark_of(row.record), row.bits_per_weight or 0.0
    if kl.low is not None and kl.high is not None:
        axes.plot(
            [bits, bits], [max(kl.low, LEAST_KL), max(kl.high, LEAST_KL)], color=mark.color, linewidth=1.2, zorder=2.5
        )
    axes.plot(
        [bits], [_shown_kl(row)], marker=mark.marker, markersize=4 if is_small else 6.5, color=mark.color,
        markerfacecolor=mark.color if mark.is_filled else PAPER, markeredgewidth=1.5, linestyle="none", zorder=3,
    )  # fmt: skip


def _label_ends(axes: Axes, ends: dict[str, Row]) -> None:
    """Names left of each line's low-bit end, moved apart so that none overlap, joined to it by a thin line."""
    height_points = axes.get_position().height * HEIGHT_POINTS
    to_points = axes.transData.transform
    scale = height_points / (axes.bbox.height or 1.0)
    columns: dict[int, list[tuple[str, Row]]] = {}
    for name, row in ends.items():
        columns.setdefault(row.record.bits or 0, []).append((name, row))
    for members in columns.values():
        left = min(row.bits_per_weight or 0.0 for _, row in members)
        wanted = [float(to_points((0.0, _shown_kl(row)))[1]) * scale for _, row in members]
        placed = spread(wanted, gap=13.5)
        for (name, row), y in zip(members, placed, strict=True):
            mark, bits = mark_of(row.record), row.bits_per_weight or 0.0
            y_data = float(axes.transData.inverted().transform((0.0, y / scale))[1])
            axes.plot(
                [left - 0.145, bits - 0.03], [y_data, _shown_kl(row)], color=mark.color, linewidth=0.6, zorder=1.5
            )
            axes.text(left - 0.16, y_data, name, color=mark.color, fontsize=11, ha="right", va="center_baseline")
