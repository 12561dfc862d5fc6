"""The speed-up figure: M × layer, one panel per baseline; cells within the noise are hatched, losses shown alike."""

from collections.abc import Sequence
from math import ceil, log2

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lords_bench.report.format import number
from lords_bench.report.latency.comparisons import Match
from lords_bench.report.svg import FASTER, GRID, INK, MUTED, PAPER, SLOWER, WIDTH_POINTS, draw
from lords_bench.spec.latency import method_label
from lords_bench.stats.verdict import Judgement, Verdict
from lords_bench.text import one_line

# A factor of four or more has the full colour.
FULL_COLOUR_LOG2 = 2.0
_ROW, _HEAD, _FOOT, _LABELS, _GAP = 19.0, 24.0, 26.0, 172.0, 22.0
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
    room = WIDTH_POINTS - _LABELS
    columns = max(1, min(len(shown), MOST_COLUMNS, int((room + _GAP) // (_LEAST_CELL * len(ladder) + _GAP))))
    rows = ceil(len(shown) / columns)
    panel_height = _HEAD + _ROW * len(layers) + _FOOT
    height = rows * panel_height + 4

    def paint(figure: Figure) -> None:
        width = (room - _GAP * (columns - 1)) / columns
        for index, baseline in enumerate(shown):
            row, column = divmod(index, columns)
            left = _LABELS + column * (width + _GAP)
            bottom = height - row * panel_height - _HEAD - _ROW * len(layers)
            axes = figure.add_axes(
                (left / WIDTH_POINTS, bottom / height, width / WIDTH_POINTS, _ROW * len(layers) / height)
            )
            _panel(axes, matches, baseline, layers, ladder, names=column == 0)
            title = f"against {method_label(baseline)}"
            figure.text(
                left / WIDTH_POINTS, (bottom + _ROW * len(layers) + 7) / height, _fit(title, width), fontsize=10.5,
                fontweight="bold",
            )  # fmt: skip

    return draw(name, height, paint)


def _panel(
    axes: Axes, matches: Sequence[Match], baseline: str, layers: list[str], ladder: list[int], *, names: bool
) -> None:
    cells = {(_layer(match), match.case.m): match for match in matches}
    for y, layer in enumerate(layers):
        for x, m in enumerate(ladder):
            match = cells.get((layer, m))
            _cell(axes, x, y, match.judgements.get(baseline) if match is not None else None)
    axes.set_xlim(0, len(ladder))
    axes.set_ylim(len(layers), 0)
    axes.set_xticks([x + 0.5 for x in range(len(ladder))], [str(m) for m in ladder])
    axes.set_yticks([y + 0.5 for y in range(len(layers))], [one_line(layer) for layer in layers] if names else [])
    axes.tick_params(length=0, labelsize=9.5)
    axes.set_xlabel("M", fontsize=9.5, labelpad=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cell(axes: Axes, x: int, y: int, judgement: Judgement | None) -> None:
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
    return f"{match.case.model} {match.case.layer}".replace("_proj", "")


def _fit(text: str, width_points: float) -> str:
    """Shortened with an ellipsis to about the width at 10.5 points."""
    most = max(8, int(width_points / 6.3))
    return text if len(text) <= most else f"{text[: most - 1]}…"
