"""The share figure: on how many shapes LoRDS is at most so many times as fast as each baseline."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lords_bench.report.latency.style import line_of
from lords_bench.report.latency.summary import Summary
from lords_bench.report.svg import MUTED, SLOWER, draw
from lords_bench.stats.verdict import Verdict

HEIGHT_POINTS = 300.0


def share_plot(summaries: Sequence[Summary], *, name: str) -> str:
    """Empirical distribution of the speed-up against each baseline; an empty text where nothing was judged."""
    shown = [summary for summary in summaries if len(summary.valid) > 1]
    if not shown:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.075, 0.15, 0.685, 0.8))
        for summary in shown:
            _step(axes, summary)
        _scale(axes, [speedup for summary in shown for _, _, speedup in summary.valid])
        axes.text(1.02, 0.97, "slower on", transform=axes.transAxes, fontsize=9.8, color=MUTED)
        ordered = sorted(shown, key=lambda summary: summary.geomean or 0.0, reverse=True)
        for row, summary in enumerate(ordered):
            text = f"{summary.baseline} {summary.count(Verdict.SLOWER)} of {len(summary.valid)}"
            color = line_of(summary.baseline).color
            axes.text(1.02, 0.9 - 0.068 * row, text, transform=axes.transAxes, fontsize=9.8, color=color)

    return draw(name, HEIGHT_POINTS, paint)


def _step(axes: Axes, summary: Summary) -> None:
    line = line_of(summary.baseline)
    values = sorted(speedup for _, _, speedup in summary.valid)
    shares = [(index + 1) / len(values) for index in range(len(values))]
    axes.step([values[0], *values], [0.0, *shares], where="post", color=line.color, linestyle=line.dash, linewidth=1.6)


def _scale(axes: Axes, values: Sequence[float]) -> None:
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
