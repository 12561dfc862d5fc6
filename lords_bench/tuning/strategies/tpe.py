"""Optuna's tree-structured Parzen estimator through its ask-and-tell interface; an optional extra.

Every field of a configuration is categorical to it. A combination that is no configuration of the space, or was tried,
costs no measurement: it is told as failed or again, and Optuna is asked anew; after 50 vain suggestions the next is
drawn at random from what is left.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lords_bench.errors import UsageError
from lords_bench.tuning.space import SearchSpace
from lords_bench.tuning.strategies.protocol import Tried

if TYPE_CHECKING:
    from optuna import Study, Trial

_PATIENCE = 50


class TpeSearch:
    """One Optuna study in memory.

    Raises:
        UsageError: Optuna is not installed.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise UsageError(
                "strategy 'tpe' needs Optuna; pip install 'lords_bench[optuna]', or take 'ranked'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._index = {config: number for number, config in enumerate(space.configs)}
        self._distributions: dict[str, Any] = {
            parameter.name: optuna.distributions.CategoricalDistribution(parameter.values)
            for parameter in space.parameters
        }
        self._fail = optuna.trial.TrialState.FAIL
        self._study: Study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=6))
        self._study.enqueue_trial({p.name: dict(space.default)[p.name] for p in space.parameters})
        self._random = random.Random(seed)
        self._open: dict[int, Trial] = {}
        self._told: dict[int, Tried] = {}
        self._asked: set[int] = set()

    def ask(self, count: int) -> Sequence[int]:
        """What Optuna suggests that is a configuration and new."""
        found: list[int] = []
        while len(found) < count and len(self._asked) < len(self._space):
            found.append(self._next())
            self._asked.add(found[-1])
        return found

    def tell(self, index: int, outcome: Tried) -> None:
        """Close the suggestion; one that Optuna never made is added to its study."""
        self._told[index] = outcome
        self._asked.add(index)
        trial = self._open.pop(index, None)
        if trial is not None:
            self._close(trial, outcome)
            return
        import optuna

        config = dict(self._space.configs[index])
        if outcome.median_ns is not None:
            self._study.add_trial(
                optuna.trial.create_trial(
                    params={name: config[name] for name in self._distributions},
                    distributions=self._distributions,
                    value=outcome.median_ns,
                )
            )

    def _next(self) -> int:
        fixed = dict(self._space.default)
        for _ in range(_PATIENCE):
            trial = self._study.ask(self._distributions)
            index = self._index.get(tuple((fixed | trial.params).items()))
            if index is not None and index not in self._asked:
                self._open[index] = trial
                return index
            known = None if index is None else self._told.get(index)
            if known is None:
                self._study.tell(trial, state=self._fail)
            else:
                self._close(trial, known)
        left = [index for index in range(len(self._space)) if index not in self._asked]
        return self._random.choice(left)

    def _close(self, trial: "Trial", outcome: Tried) -> None:
        if outcome.median_ns is None:
            self._study.tell(trial, state=self._fail)
        else:
            self._study.tell(trial, outcome.median_ns)
