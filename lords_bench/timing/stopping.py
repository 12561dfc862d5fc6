"""When sampling ends, and what makes a whole batch of rounds unusable."""

from collections.abc import Callable
from typing import Final

from lords_bench.stats.median import LEAST
from lords_bench.timing.comparison import Policy
from lords_bench.timing.device import Border

# The next look at the interval comes after this share of rounds more: each look is a chance to stop at a lucky width.
LOOK_GROWTH = 1.15
# Four times the rounds should halve the width. Where they take off less than a fifth, more of them will not help.
SETTLED_ROUNDS = 4
SETTLED_SHARE = 0.8

PRECISE: Final = "precise"
SETTLED: Final = "settled"
BUDGET: Final = "budget"
MAX_ROUNDS: Final = "max-rounds"
# Of the time between two looks, how much the clock must have been held down to make what was timed meanwhile unusable;
# a slower sample is told by its own clock as well.
LEAST_HELD_SHARE = 0.02
# These end a run even if its last batch is unusable.
FINAL = (BUDGET, MAX_ROUNDS)


class StoppingRule:
    """Says once per round whether to stop.

    Stopping looks at the width of the interval alone, never at where it lies, so that it cannot favour a verdict.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._next_look = policy.min_rounds + policy.min_rounds % 2
        self._widths: dict[int, float] = {}

    def reached(self, rounds: int, spent_s: float, half_width: Callable[[], float | None]) -> str | None:
        """Why to stop after so many rounds and seconds; None = go on. `half_width` is asked only at a look."""
        policy = self._policy
        if rounds >= policy.max_rounds:
            return MAX_ROUNDS
        if rounds >= LEAST and spent_s >= policy.budget_s:
            return BUDGET
        if rounds < self._next_look:
            return None
        self._next_look = rounds + max(2, round(rounds * (LOOK_GROWTH - 1) / 2) * 2)
        width = half_width()
        if width is None:
            return None
        if width <= policy.half_width:
            return PRECISE
        self._widths[rounds] = width
        earlier = [known for count, known in self._widths.items() if count * SETTLED_ROUNDS <= rounds]
        if earlier and min(self._widths.values()) > SETTLED_SHARE * min(earlier):
            return SETTLED
        return None


def cause_between(before: Border, after: Border) -> str | None:
    """Why no sample taken between the two borders can be used; None where nothing speaks against them.

    The power limit is no cause: under a dense matrix product it is the steady state (decision on the protocol).
    """
    if after.foreign:
        return f"another process computed on the device: {', '.join(after.foreign)}"
    if before.violation_ns is None or after.violation_ns is None:
        return None
    held_ns = after.violation_ns - before.violation_ns
    spent_ns = None if before.at_ns is None or after.at_ns is None else after.at_ns - before.at_ns
    if held_ns > (0 if spent_ns is None else LEAST_HELD_SHARE * spent_ns):
        return "heat or a board limit held the clock down"
    return None
