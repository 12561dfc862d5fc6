"""A metric over commits with its changes of level, one page per metric: a pure function of records.

A series has one device, one set of inputs and one case: numbers of different machines never stand on one line. Points
are in the order in which they were measured.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from lords_bench.errors import RecordError, UsageError
from lords_bench.records import AccuracySamples, BenchRecord
from lords_bench.records.latency import LatencyRecord
from lords_bench.report.document import Article, Code, Column, Document, Figure, Row, Section, Table, figure_sections
from lords_bench.report.format import decimals_for, number
from lords_bench.report.select import grouped
from lords_bench.report.svg import INK, MUTED, ROLES, draw
from lords_bench.stats.change_points import LEAST_STEP, Step, level_steps

COMMIT_DIGITS = 7
# Panels of the figure: the series with the largest last step first; the table has every series.
MOST_PANELS = 12
_COLUMNS = 3
_PANEL_POINTS = 150


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measurement: when, of which commit, and whether the tree had changes on top of it."""

    created_utc: str
    commit: str | None
    dirty: bool
    value: float

    @property
    def label(self) -> str:
        """Short commit, with `+` where the tree was changed."""
        return (self.commit or "no commit")[:COMMIT_DIGITS] + ("+" if self.dirty else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Points of one benchmark on one device, in the order of time, and the steps between their levels."""

    device: str
    benchmark: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryMetric:
    """A metric that has a history: of which record file, and how it is read."""

    suite: str
    label: str
    read: Callable[[AccuracySamples], float | None] | None = None


HISTORY_METRICS: MappingProxyType[str, HistoryMetric] = MappingProxyType(
    {
        "kl": HistoryMetric(suite="accuracy", label="KL ×1000", read=lambda s: 1000 * s.kl_nats_per_token),
        "bits_per_byte": HistoryMetric(suite="accuracy", label="Bits per byte", read=lambda s: s.bits_per_byte),
        "weight_error": HistoryMetric(suite="accuracy", label="Weight error", read=lambda s: s.relative_weight_error),
        "latency": HistoryMetric(suite="latency", label="Median latency, µs"),
    }
)


def named_history_metric(name: str) -> HistoryMetric:
    """The metric of that name.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in HISTORY_METRICS:
        raise UsageError(f"unknown history metric {name!r}; known: {', '.join(HISTORY_METRICS)}")
    return HISTORY_METRICS[name]


def history_page(name: str, records: Iterable[BenchRecord | LatencyRecord]) -> Document:
    """The page of a metric, with a figure per device.

    Raises:
        UsageError: an unknown metric.
        RecordError: no record has it.
    """
    metric = named_history_metric(name)
    by_device = grouped(history_series(metric, records), lambda one: one.device)
    if not by_device:
        raise RecordError(f"no record has the metric {name!r}; run 'lords-bench bench {metric.suite}' first")
    numbered = enumerate(sorted(by_device), start=1)
    return Document(
        file=f"history-{name}",
        suite="history",
        kind="history",
        part="device",
        title=f"{metric.label} over commits",
        articles=tuple(_article(device, by_device[device], metric, f"{name}-{index}") for index, device in numbered),
        guide={
            "Points": "In the order in which they were measured; + and a hollow mark stand for a changed tree.",
            "Lines": f"Levels: a step is where the level of a series moved by more than noise and {LEAST_STEP:.0%}.",
            "Rebuild this page": Code(f"lords-bench report --history {name}"),
        },
    )


def history_series(metric: HistoryMetric, records: Iterable[BenchRecord | LatencyRecord]) -> tuple[Series, ...]:
    """Series of the metric, by device and benchmark."""
    found: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
    for record in records:
        if isinstance(record, BenchRecord):
            value = metric.read(record.samples) if metric.read is not None and record.samples is not None else None
            environment, key, benchmark = record.environment, record.comparison_key, record.case_id
        else:
            measured = record.measurement if metric.read is None else None
            value = None if measured is None else measured.median_ns / 1000
            environment, key = record.run.environment, record.run.comparison_key
            benchmark = f"{record.case.case_id} {record.method} ({record.regime})"
        # A metric of exactly 0 (the unquantized model's KL from itself) has no level to move.
        if value is None or value <= 0:
            continue
        host = environment.hostname_sha256
        device = environment.device_name + (f", machine {host}" if host else "")
        found[(device, key, benchmark)].append(
            Point(
                created_utc=record.created_utc,
                commit=environment.git_commit,
                dirty=environment.git_dirty is not False,
                value=value,
            )
        )
    ordered = {key: tuple(sorted(points, key=lambda point: point.created_utc)) for key, points in found.items()}
    inputs = Counter((device, benchmark) for device, _, benchmark in ordered)
    return tuple(
        Series(
            device=device,
            # The inputs are named where one benchmark was measured with several.
            benchmark=benchmark if inputs[(device, benchmark)] == 1 else f"{benchmark} [inputs {key[:6]}]",
            points=points,
            steps=level_steps([point.value for point in points]),
        )
        for (device, key, benchmark), points in sorted(ordered.items())
    )


def _article(device: str, series: Sequence[Series], metric: HistoryMetric, name: str) -> Article:
    shown = min(len(series), MOST_PANELS)
    caption = f"The figure has {shown} of {len(series)} series, those with the largest last step first."
    title = f"{metric.label} over commits"
    figure = Figure(name=name, title=title, caption=caption, svg=_drawing(series, metric, name))
    columns = ("benchmark", "points", "first", "last", Column(name="steps", style="after"))
    table = Table(label="Series", columns=columns, rows=tuple(map(_row, series)))
    return Article(name=device, sections=(*figure_sections((figure,)), Section(title="Series", blocks=(table,))))


def _row(series: Series) -> Row:
    steps = "; ".join(
        f"{number(100 * step.relative, 1, sign=True)} % at {series.points[step.index].label}" for step in series.steps
    )
    first, last = (_shown(point.value) for point in (series.points[0], series.points[-1]))
    return (series.benchmark, str(len(series.points)), first, last, steps or "none")


def _drawing(series: Sequence[Series], metric: HistoryMetric, name: str) -> str:
    chosen = sorted(series, key=lambda one: (-_size(one), one.benchmark))[:MOST_PANELS]
    rows = -(-len(chosen) // _COLUMNS)
    height = 34 + _PANEL_POINTS * rows

    def paint(figure: Canvas) -> None:
        figure.text(0.01, 1 - 16 / height, f"{metric.label} over commits", fontsize=11.5, fontweight="bold")
        for index, one in enumerate(chosen):
            row, column = divmod(index, _COLUMNS)
            width = 1 / _COLUMNS
            bottom = 1 - (34 + _PANEL_POINTS * (row + 1) - 32) / height
            axes = figure.add_axes((column * width + 0.06, bottom, width - 0.075, (_PANEL_POINTS - 60) / height))
            _panel(axes, one)

    return draw(name, height, paint)


def _panel(axes: Axes, series: Series) -> None:
    values = [point.value for point in series.points]
    color = ROLES["low-rank"].drawn
    for index, point in enumerate(series.points):
        face = "none" if point.dirty else color
        axes.plot([index], [point.value], marker="o", markersize=4, color=color, markerfacecolor=face)
    bounds = [0, *(step.index for step in series.steps), len(values)]
    for start, end in pairwise(bounds):
        level = sorted(values[start:end])[(end - start) // 2]
        axes.plot([start - 0.3, end - 0.7], [level, level], color=INK, linewidth=1.2)
    for step in series.steps:
        axes.axvline(step.index - 0.5, color=MUTED, linewidth=0.8, linestyle="dashed")
    axes.set_title(series.benchmark, fontsize=8.5, color=INK, loc="left")
    ticks = sorted({0, *(step.index for step in series.steps), len(values) - 1})
    axes.set_xticks(ticks, [series.points[tick].label for tick in ticks], fontsize=7.5)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.margins(y=0.2)
    axes.tick_params(length=0, labelsize=8)


def _size(series: Series) -> float:
    return abs(series.steps[-1].relative) if series.steps else 0.0


def _shown(value: float) -> str:
    return number(value, decimals_for(value, 4))
