"""The figures of the accuracy page, in order: how each is drawn, what it shows and how to read it.

Colour tells the scale field, fill tells whether calibration data was used, shape tells whether levels were learned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lords_bench.records import BenchRecord
from lords_bench.report.format import number
from lords_bench.report.svg import GRID, MUTED, PAPER, ROLES, draw, spread
from lords_bench.stats import Interval
from lords_bench.suites.accuracy.judge import BitsGroup, Row, compare
from lords_bench.suites.accuracy.metrics import METRICS, PRIMARY
from lords_bench.text import one_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How one case is drawn."""

    role: str
    marker: str
    is_filled: bool

    @property
    def color(self) -> str:
        """The colour to draw with."""
        return ROLES[self.role].drawn


def mark_of(record: BenchRecord) -> Mark:
    """Colour by scale field, shape by levels, fill by calibration."""
    if record.spec is None:
        return Mark(role="mixed" if record.mixed else "ink", marker="s", is_filled=record.needs_calibration)
    role = "low-rank" if record.spec.is_low_rank else str(record.spec.scales)
    marker = "D" if record.spec.levels == "learned" else "o"
    if record.spec.scales == "low-rank-paper":
        marker = "^"
    return Mark(role=role, marker=marker, is_filled=record.needs_calibration)


# Above this many series, variants of a method are drawn small and without a label.
MAX_LABELLED = 16
PARETO_POINTS = 460
# KL × 1000 is drawn no lower than this, because the axis is logarithmic.
LEAST_KL = 1e-3


def pareto_plot(groups: Sequence[BitsGroup], *, name: str) -> str:
    """Measured bits per weight against KL (log), one line per method, labelled at its low-bit end."""
    series = _series([row for group in groups for row in group.rows if row.record.complete])
    if not series:
        return ""
    labelled = _labelled(series)
    return draw(name, PARETO_POINTS, lambda figure: _pareto(figure, series, labelled))


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
    height_points = axes.get_position().height * PARETO_POINTS
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


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureKind:
    """A figure: `draw` makes an `<svg>` element of groups and a name, or an empty text where there is nothing to show.

    `shows_all_groups` is False where only the groups of the verdict are drawn.
    """

    title: str
    caption: str
    draw: Callable[..., str]
    shows_all_groups: bool


MARKS = (
    "Colour is the scale field (blue low rank, orange optimised blocks, grey blocks by largest magnitude, "
    "pink affine, green mixed precision); a filled mark used calibration data; a diamond has learned levels."
)

FIGURES: MappingProxyType[str, FigureKind] = MappingProxyType(
    {
        "pareto": FigureKind(
            title="Bits against KL",
            caption="Every quantized case at the bits it really stores, with 95 % intervals. The pale stair is the "
            f"lowest KL that any case reaches with at most so many bits. {MARKS}",
            draw=pareto_plot,
            shows_all_groups=True,
        ),
        "changes": FigureKind(
            title="KL against the NormalFloat baseline",
            caption="Paired change in KL at equal bits, as a percentage of the baseline's KL, with 95 % intervals. "
            f"Left of the line is better; an interval that touches the line is not resolved. {MARKS}",
            draw=change_plot,
            shows_all_groups=False,
        ),
        "layers": FigureKind(
            title="Weight error per layer",
            caption="Squared weight error of each layer divided by that of the NormalFloat baseline; below 1 is "
            "better. Only methods that minimise the weight error itself: error feedback minimises the error of the "
            "layer's output instead.",
            draw=layer_plot,
            shows_all_groups=False,
        ),
    }
)
