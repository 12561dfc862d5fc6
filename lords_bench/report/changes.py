"""The change figure: KL of every case against the NormalFloat baseline that stores equal bits."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lords_bench.report.format import number
from lords_bench.report.metrics import PRIMARY
from lords_bench.report.style import mark_of
from lords_bench.report.svg import MUTED, PAPER, draw
from lords_bench.report.tables import BitsGroup, Row, compare
from lords_bench.stats import Interval
from lords_bench.text import one_line


def change_plot(groups: Sequence[BitsGroup], *, name: str) -> str:
    """KL of every case as a percentage change against the NormalFloat baseline of its group, one panel per group."""
    panels = [group for group in groups if _changes(group)]
    most = max((len(_changes(group)) for group in panels), default=0)
    height = 54 + 24 * most
    return draw(name, height, lambda figure: _change_panels(figure, panels, most, height)) if panels else ""


def _changes(group: BitsGroup) -> list[tuple[Row, Interval]]:
    """Rows with their KL change in per cent against the group's NormalFloat row, worst first (drawn bottom up)."""
    found = []
    baseline = group.row("nf") if group.is_comparable else None
    for row in reversed(group.rows):
        if baseline is None or row is baseline:
            continue
        paired = compare(row.record, baseline.record).differences.get(PRIMARY)
        if paired is not None and paired.relative is not None:
            found.append((row, paired.relative.scaled(100)))
    return found


def _change_panels(figure: Figure, panels: Sequence[BitsGroup], most: int, height: float) -> None:
    left, right, gap = 0.01, 0.015, 0.025
    label_width = 0.155
    width = (1 - left - right - gap * (len(panels) - 1)) / len(panels)
    for number_of, group in enumerate(panels):
        x = left + number_of * (width + gap) + label_width
        axes = figure.add_axes((x, 30 / height, width - label_width, 1 - 54 / height))
        _change_panel(axes, group, most)
        title = f"{group.bits} bits: KL against nf{group.bits}"
        figure.text(x - label_width, 1 - 16 / height, title, fontsize=11.5, fontweight="bold")


def _change_panel(axes: Axes, group: BitsGroup, most: int) -> None:
    changes = _changes(group)
    for y, (row, change) in enumerate(changes):
        mark = mark_of(row.record)
        if change.low is not None and change.high is not None:
            axes.plot([change.low, change.high], [y, y], color=mark.color, linewidth=2.2, solid_capstyle="round")
        axes.plot(
            [change.estimate], [y], marker=mark.marker, markersize=6.5, color=mark.color, linestyle="none",
            markerfacecolor=mark.color if mark.is_filled else PAPER, markeredgewidth=1.5, zorder=3,
        )  # fmt: skip
    axes.axvline(0, color=MUTED, linewidth=1.2)
    axes.set_yticks(range(len(changes)), [one_line(row.record.method) for row, _ in changes])
    for label, (row, _) in zip(axes.get_yticklabels(), changes, strict=True):
        label.set_color(mark_of(row.record).color)
        label.set_fontsize(10.5)
    axes.set_ylim(len(changes) - most - 0.7, len(changes) - 0.3)
    ends = [end for _, change in changes for end in (change.low, change.high, change.estimate) if end is not None]
    low, high = min([*ends, -10.0]), max([*ends, 10.0])
    axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{number(value, 0, sign=True)} %"))
    axes.locator_params(axis="x", nbins=3)
    axes.tick_params(length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
