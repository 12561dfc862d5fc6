"""The two searches that know nothing: every configuration in canonical order, and a seeded shuffle."""

import random
from collections.abc import Sequence

from lords_bench.tuning.space import SearchSpace
from lords_bench.tuning.strategies.protocol import Tried


class ListSearch:
    """A fixed order; what was told is skipped."""

    def __init__(self, order: Sequence[int]) -> None:
        self._left = list(reversed(order))
        self._told: set[int] = set()

    def ask(self, count: int) -> Sequence[int]:
        """The next ones of the order."""
        asked: list[int] = []
        while self._left and len(asked) < count:
            index = self._left.pop()
            if index not in self._told:
                asked.append(index)
        return asked

    def tell(self, index: int, outcome: Tried) -> None:  # noqa: ARG002  (every strategy is told alike)
        """Never ask for it again."""
        self._told.add(index)


def exhaustive(space: SearchSpace) -> ListSearch:
    """Everything, in canonical order: the default first."""
    return ListSearch(range(len(space)))


def random_search(space: SearchSpace, *, seed: int) -> ListSearch:
    """The default, then everything else in random order."""
    others = list(range(1, len(space)))
    random.Random(seed).shuffle(others)
    return ListSearch([0, *others])
