"""What a search sees: a space, guesses about it, and how each configuration that it asked for turned out. Nothing else.

`Strategy.ask` names configurations, `Strategy.tell` says what became of one. An `Evaluator` finds out: a GPU, a fake
device, or a recorded table (`tuning.replay`). A strategy cannot tell which, and so is judged without a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lords_bench.records.status import Status
from lords_bench.tuning.space import SearchSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """How a configuration turned out; the time is there if and only if the status is ok."""

    status: Status
    median_ns: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """What is known of a configuration before it is tried.

    Attributes:
        predicted_ns: time by the analytic model, in ns; only the order of guesses matters.
        features: numbers that the model derived (bytes, waves, …), for a regression.
    """

    predicted_ns: float
    features: tuple[float, ...] = ()


class Strategy(Protocol):
    """One search over one space."""

    def ask(self, count: int) -> Sequence[int]:
        """At most `count` numbers of configurations that were neither asked for nor told; empty = nothing is left."""
        ...

    def tell(self, index: int, outcome: Tried) -> None:
        """How a configuration turned out, also one that an earlier run had tried."""
        ...


class Evaluator(Protocol):
    """Finds out how configurations turn out."""

    @property
    def space(self) -> SearchSpace:
        """What may be asked for."""
        ...

    @property
    def guesses(self) -> Sequence[Guess] | None:
        """One per configuration; None where there is no model."""
        ...

    def evaluate(self, index: int) -> Tried:
        """Try one configuration."""
        ...


def run_search(strategy: Strategy, evaluator: Evaluator, *, budget: int) -> tuple[tuple[int, Tried], ...]:
    """Ask and tell until the strategy has nothing left or `budget` configurations were tried; gives them in order."""
    history: list[tuple[int, Tried]] = []
    while len(history) < budget:
        asked = strategy.ask(1)
        if not asked:
            break
        outcome = evaluator.evaluate(asked[0])
        strategy.tell(asked[0], outcome)
        history.append((asked[0], outcome))
    return tuple(history)
