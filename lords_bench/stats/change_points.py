"""Where the level of a series of measurements changed: piecewise constant fit by PELT, from the library `ruptures`.

Killick, Fearnhead, Eckley, "Optimal Detection of Changepoints with a Linear Computational Cost", JASA 107 (2012), with
the cost |x − median| per segment, so that a single outlier is no change. The penalty per change is 4·b·ln n, b being
the mean deviation that neighbours show; a step below `LEAST_STEP` of its level is not told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

LEAST_STEP = 0.01
# A level is seen in at least two points; with fewer than four there is nothing to find.
LEAST_POINTS = 2
# Numbers that repeat exactly still differ between machines in their last digits: no step below this share is real.
LEAST_DEVIATION = 1e-4
_PENALTY = 4.0
# Median absolute difference of neighbours to mean absolute deviation, for normal noise: 0.798 / (0.6745 · √2).
_TO_MEAN_DEVIATION = 0.836


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A change of level: the first point of the new one, and the medians before and after."""

    index: int
    before: float
    after: float

    @property
    def relative(self) -> float:
        """How much the level moved, as a share of the old one."""
        return self.after / self.before - 1


def level_steps(values: Sequence[float]) -> tuple[Step, ...]:
    """Steps of a series of positive numbers in time order; empty where the series is too short or steady.

    Raises:
        ValueError: a value that is not positive.
    """
    if any(not value > 0 for value in values):
        raise ValueError(f"a series of levels holds {min(values)}; logarithms need positive numbers")
    if len(values) < 2 * LEAST_POINTS:
        return ()
    from ruptures import Pelt

    logs = np.log(np.asarray(values, dtype=np.float64))
    deviation = max(_TO_MEAN_DEVIATION * float(np.median(np.abs(np.diff(logs)))), LEAST_DEVIATION)
    fitted = Pelt(model="l1", min_size=LEAST_POINTS, jump=1).fit(logs.reshape(-1, 1))
    ends = fitted.predict(pen=_PENALTY * deviation * log(len(values)))
    return _steps(values, [0, *ends])


def _steps(values: Sequence[float], bounds: Sequence[int]) -> tuple[Step, ...]:
    """Steps between the segments; one that is too small joins the segments on its two sides."""
    kept = list(bounds)
    position = 1
    while position < len(kept) - 1:
        before = float(np.median(values[kept[position - 1] : kept[position]]))
        after = float(np.median(values[kept[position] : kept[position + 1]]))
        if abs(after / before - 1) < LEAST_STEP:
            del kept[position]
            position = max(1, position - 1)
        else:
            position += 1
    return tuple(
        Step(
            index=kept[i],
            before=float(np.median(values[kept[i - 1] : kept[i]])),
            after=float(np.median(values[kept[i] : kept[i + 1]])),
        )
        for i in range(1, len(kept) - 1)
    )
