"""Training curves: loss by step, and the difference to the stage's baseline in the same step with the same batch.

Batches differ far more than methods do, and every method sees the same ones, so the difference is what can be read. The
line is the mean over seeds of a running mean over `SPAN` steps, the band goes from the lowest seed to the highest.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lords_bench.records.lifecycle import Stage
from lords_bench.report.svg import ROLES, WIDTH_POINTS, draw
from lords_bench.stats.bootstrap import Floats
from lords_bench.suites.lifecycle.judge import BASELINE, LifecycleEvaluation, RunGroup, samples_of, words

SPAN = 10
_ROLE = {
    "lords": "low-rank", "lords-equal-bits": "mixed", "block": "optimised", "int": "affine", "qlora": "optimised",
    "loftq": "affine", "qpissa": "absmax",
}  # fmt: skip
_PANEL, _HEAD, _KEY, _FOOT, _LEFT, _BETWEEN = 150.0, 26.0, 24.0, 34.0, 54.0, 30.0
# Points that a letter of the key takes, about.
_LETTER, _GAP = 6.4, 34.0


def curves(evaluation: LifecycleEvaluation, stage: Stage, *, name: str) -> str:
    """One column per number of bits; an empty text where no run of the stage has enough steps."""
    columns = {
        bits: [g for g in evaluation.groups if (g.stage, g.bits) == (stage, bits) and _is_drawn(g)]
        for bits in evaluation.bits_of(stage)
    }
    columns = {bits: groups for bits, groups in columns.items() if groups}
    if not columns:
        return ""
    height = _KEY + _HEAD + 2 * _PANEL + _BETWEEN + _FOOT

    def paint(figure: Figure) -> None:
        _key(figure, [group.method for groups in columns.values() for group in groups], height)
        width = WIDTH_POINTS / len(columns)
        for index, (bits, groups) in enumerate(columns.items()):
            baseline = next((group for group in groups if group.method == BASELINE[stage]), None)
            left, inner = index * width + _LEFT, width - _LEFT - 8
            above, below = (
                figure.add_axes((left / WIDTH_POINTS, bottom / height, inner / WIDTH_POINTS, _PANEL / height))
                for bottom in (_FOOT + _PANEL + _BETWEEN, _FOOT)
            )
            _panel(above, groups, None)
            above.set_title(f"{bits} bits", fontsize=11, fontweight="bold", loc="left")
            below.set_xlabel("step")
            if baseline is not None:
                _panel(below, groups, baseline)
            if index == 0:
                above.set_ylabel("loss, nats per token", fontsize=10)
                below.set_ylabel(f"(loss − {words(BASELINE[stage])}) × 1000", fontsize=9)

    return draw(name, height, paint)


def _key(figure: Figure, methods: Sequence[str], height: float) -> None:
    x = _LEFT
    for method in dict.fromkeys(methods):
        text = words(method)
        figure.text(x / WIDTH_POINTS, 1 - 12 / height, f"— {text}", color=_color(method), fontsize=11, va="center")
        x += len(text) * _LETTER + _GAP


def _color(method: str) -> str:
    return ROLES[_ROLE.get(method, "ink")].drawn


def _is_drawn(group: RunGroup) -> bool:
    return bool(group.runs) and all(len(samples_of(run).step_loss_nats) >= SPAN for run in group.runs)


def _panel(axes: Axes, groups: Sequence[RunGroup], baseline: RunGroup | None) -> None:
    for group in groups:
        table = _table(group, baseline)
        if table is None:
            continue
        steps, color = np.arange(SPAN, table.shape[1] + SPAN), _color(group.method)
        axes.fill_between(steps, table.min(axis=0), table.max(axis=0), color=color, alpha=0.16, linewidth=0)
        axes.plot(steps, table.mean(axis=0), color=color, linewidth=1.5)
    axes.tick_params(length=0, labelsize=9.5)


def _table(group: RunGroup, baseline: RunGroup | None) -> Floats | None:
    """Seeds × steps: running means of the loss, or of 1000 times its difference to the baseline's of the same seed."""
    if baseline is None:
        return np.stack([_smooth(samples_of(run).step_loss_nats) for run in group.runs])
    other = {run.training_seed: samples_of(run).step_loss_nats for run in baseline.runs}
    rows = [
        1000 * _smooth(np.subtract(losses, other[run.training_seed]).tolist())
        for run in group.runs
        if run.training_seed in other and len(losses := samples_of(run).step_loss_nats) == len(other[run.training_seed])
    ]
    return np.stack(rows) if rows else None


def _smooth(losses: Sequence[float]) -> Floats:
    return np.convolve(np.asarray(losses, dtype=np.float64), np.full(SPAN, 1 / SPAN), mode="valid")
