"""The default search: the analytic model ranks first, then a forest learns from what was tried.

The first tries are the default and the configurations that the model puts first, spread over its ranking so that the
forest sees more than one corner. From then on a random forest regresses log time on the encoded configuration and on
what the model derived, failures counting as slower than anything seen, and the next try is the configuration with the
lowest optimistic estimate (mean minus spread of the trees). Where the model says nothing the first tries are random.
Cost: fitting takes about 0.1 s, so it is done once per handful of tries, not per try.
"""

import random
from collections.abc import Sequence
from math import log

from lords_bench.tuning.space import SearchSpace
from lords_bench.tuning.strategies.protocol import Guess, Tried

FIRST_SHARE = 0.3
LEAST_TOLD = 6
TREES = 60
OPTIMISM = 0.7
# A failure is told to the forest as this many times slower than the slowest success.
FAILURE_FACTOR = 2.0


class RankedSearch:
    """Model first, forest after."""

    def __init__(
        self, space: SearchSpace, guesses: Sequence[Guess] | None, *, seed: int, budget: int, batch: int = 3
    ) -> None:
        self._count = len(space)
        self._rows = _rows(space, guesses)
        self._seed = seed
        self._batch = batch
        self._told: dict[int, Tried] = {}
        self._asked: set[int] = set()
        self._queue = _first(self._count, guesses, seed=seed, count=max(LEAST_TOLD, round(FIRST_SHARE * budget)))

    def ask(self, count: int) -> Sequence[int]:
        """The next of the first tries, else what the forest expects most of."""
        found: list[int] = []
        while len(found) < count:
            self._queue = [index for index in self._queue if index not in self._told and index not in self._asked]
            if not self._queue:
                self._queue = self._propose(max(self._batch, count - len(found)))
                if not self._queue:
                    break
            index = self._queue.pop(0)
            self._asked.add(index)
            found.append(index)
        return found

    def tell(self, index: int, outcome: Tried) -> None:
        """Learn from it at the next proposal."""
        self._told[index] = outcome

    def _propose(self, count: int) -> list[int]:
        left = [index for index in range(self._count) if index not in self._told and index not in self._asked]
        times = {i: outcome.median_ns for i, outcome in self._told.items() if outcome.median_ns is not None}
        if not left:
            return []
        if len(times) < 2:
            random.Random(self._seed).shuffle(left)
            return left[:count]
        worst = FAILURE_FACTOR * max(times.values())
        rows = [self._rows[index] for index in self._told]
        targets = [log(times.get(index, worst)) for index in self._told]
        lows = _optimistic(rows, targets, [self._rows[index] for index in left], seed=self._seed)
        return [index for _, index in sorted(zip(lows, left, strict=True))][:count]


def _first(size: int, guesses: Sequence[Guess] | None, *, seed: int, count: int) -> list[int]:
    """The default; then by turns the best left of the ranking, and one drawn from its better half."""
    order = list(range(size))
    shuffled = random.Random(seed)
    if guesses is None:
        shuffled.shuffle(order)
    else:
        order.sort(key=lambda index: guesses[index].predicted_ns)
    chosen = [0]
    while len(chosen) < min(count, size):
        left = [index for index in order if index not in chosen]
        chosen.append(left[0] if len(chosen) % 3 else shuffled.choice(left[: max(1, len(left) // 2)]))
    return chosen


def _rows(space: SearchSpace, guesses: Sequence[Guess] | None) -> list[list[float]]:
    rows = space.encode()
    if guesses is None:
        return rows
    return [[*row, log(guess.predicted_ns), *guess.features] for row, guess in zip(rows, guesses, strict=True)]


def _optimistic(rows: list[list[float]], targets: list[float], wanted: list[list[float]], *, seed: int) -> list[float]:
    import numpy as np
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(n_estimators=TREES, min_samples_leaf=1, random_state=seed, bootstrap=False)
    forest.fit(np.asarray(rows), np.asarray(targets))
    each = np.stack([tree.predict(np.asarray(wanted)) for tree in forest.estimators_])
    lows: list[float] = (each.mean(axis=0) - OPTIMISM * each.std(axis=0)).tolist()
    return lows
