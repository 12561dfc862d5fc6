"""The layer figure: where in the model each method gains or loses weight error."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from lords_bench.report.style import mark_of
from lords_bench.report.svg import MUTED, PAPER, draw, spread
from lords_bench.report.tables import BitsGroup, Row
from lords_bench.text import one_line

MAX_NAMED_LAYERS = 28
LAYER_METHODS = ("block-opt", "lords-paper", "lords", "lords-learned")
PANEL_POINTS = 104.0


def layer_plot(groups: Sequence[BitsGroup], *, name: str) -> str:
    """Relative squared error of each layer divided by the NormalFloat baseline's, one panel per group."""
    panels = [group for group in groups if _has_layers(group) and any(group.row(m) for m in LAYER_METHODS)]
    height = 74 + 132 * len(panels)
    return draw(name, height, lambda figure: _layer_panels(figure, panels, height)) if panels else ""


def _has_layers(group: BitsGroup) -> bool:
    baseline = group.row("nf")
    return baseline is not None and bool(baseline.samples.layer_names)


def _layer_panels(figure: Figure, panels: Sequence[BitsGroup], height: float) -> None:
    for index, group in enumerate(panels):
        bottom = height - 24 - (PANEL_POINTS + 28) * index - PANEL_POINTS
        axes = figure.add_axes((0.062, bottom / height, 0.808, PANEL_POINTS / height))
        _layer_panel(axes, group, is_last=index == len(panels) - 1)


def _layer_panel(axes: Axes, group: BitsGroup, *, is_last: bool) -> None:
    base = group.row("nf")
    if base is None:
        return
    baseline, layers = base.samples.layer_relative_errors, base.samples.layer_names
    found = [row for method in LAYER_METHODS if (row := group.row(method)) is not None]
    rows = [row for row in found if row.samples.layer_names == layers]
    ends = []
    low, high = 0.99, 1.0
    for row in rows:
        ratios = [a / b if b else 1.0 for a, b in zip(row.samples.layer_relative_errors, baseline, strict=True)]
        mark = mark_of(row.record)
        axes.plot(
            range(len(ratios)), ratios, color=mark.color, marker=mark.marker, markersize=4.5, linewidth=0.9,
            markerfacecolor=PAPER, markeredgewidth=1.2,
        )  # fmt: skip
        ends.append((row, ratios[-1]))
        low, high = min(low, *ratios), max(high, *ratios)
    axes.axhline(1, color=MUTED, linewidth=1.2)
    axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2f}"))
    axes.locator_params(axis="y", nbins=4)
    axes.tick_params(length=0)
    title = f"{group.bits} bits: squared error of each layer ÷ nf{group.bits}'s"
    axes.text(0.0, 1.0, title, transform=axes.transAxes, fontsize=11.5, fontweight="bold", va="bottom")
    _name_layers(axes, layers if is_last else ())
    _label_lines(axes, ends, (low, high))


def _name_layers(axes: Axes, names: Sequence[str]) -> None:
    if 0 < len(names) <= MAX_NAMED_LAYERS:
        axes.set_xticks(
            range(len(names)), list(map(one_line, short_names(names))), rotation=38, ha="right", rotation_mode="anchor"
        )
        for label in axes.get_xticklabels():
            label.set_fontsize(9.5)
    else:
        axes.xaxis.set_major_formatter(NullFormatter())
        if names:
            axes.set_xlabel(f"{len(names)} layers in model order; names in the table of layers")


def _label_lines(axes: Axes, ends: Sequence[tuple[Row, float]], limits: tuple[float, float]) -> None:
    low, high = limits
    per_point = 1.16 * (high - low) / PANEL_POINTS
    placed = spread([value / per_point for _, value in ends], gap=13)
    for (row, _), y in zip(ends, placed, strict=True):
        axes.text(
            1.012, y * per_point, row.record.method, transform=axes.get_yaxis_transform(),
            color=mark_of(row.record).color, fontsize=10.5, va="center_baseline",
        )  # fmt: skip


def short_names(names: Sequence[str]) -> list[str]:
    """Layer names without the parts that all of them share: `model.layers.0.mlp.up_proj` → `0.mlp.up_proj`."""
    parts = [name.split(".") for name in names]
    shared = 0
    while all(len(part) > shared + 1 for part in parts) and len({part[shared] for part in parts}) == 1:
        shared += 1
    return [".".join(part[shared:]) for part in parts]
