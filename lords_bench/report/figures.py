"""The figures of the accuracy page, in order: how each is drawn, what it shows and how to read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from lords_bench.report.changes import change_plot
from lords_bench.report.layers import layer_plot
from lords_bench.report.pareto import pareto_plot
from lords_bench.report.tables import BitsGroup


class Draw(Protocol):
    """Groups to an `<svg>` element, empty where there is nothing to show."""

    def __call__(self, groups: Sequence[BitsGroup], *, name: str) -> str:
        """Draw the groups under that name, which makes the ids of the element unique on a page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureKind:
    """A figure; `shows_all_groups` is False where only the groups of the verdict are drawn."""

    title: str
    caption: str
    draw: Draw
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
