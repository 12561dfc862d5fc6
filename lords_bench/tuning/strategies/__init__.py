"""Searches by name. Read `protocol.py` first; each other file is one search.

`ranked` is the default. `random` and `exhaustive` are what any search must beat, `tpe` is a well-known library's.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from lords_bench.errors import UsageError
from lords_bench.tuning.space import SearchSpace
from lords_bench.tuning.strategies.plain import exhaustive, random_search
from lords_bench.tuning.strategies.protocol import Evaluator, Guess, Strategy, Tried, run_search
from lords_bench.tuning.strategies.ranked import RankedSearch
from lords_bench.tuning.strategies.tpe import TpeSearch

__all__ = [
    "DEFAULT",
    "STRATEGIES",
    "Evaluator",
    "Guess",
    "Strategy",
    "Tried",
    "make_strategy",
    "run_search",
    "search_budget",
]

DEFAULT = "ranked"
SEARCH_SHARE = 0.15
LEAST_TRIES = 8

# Of (space, guesses, seed, number of tries expected).
STRATEGIES: Mapping[str, Callable[[SearchSpace, Sequence[Guess] | None, int, int], Strategy]] = MappingProxyType(
    {
        "ranked": lambda space, guesses, seed, budget: RankedSearch(space, guesses, seed=seed, budget=budget),
        "tpe": lambda space, _guesses, seed, _budget: TpeSearch(space, seed=seed),
        "random": lambda space, _guesses, seed, _budget: random_search(space, seed=seed),
        "exhaustive": lambda space, _guesses, _seed, _budget: exhaustive(space),
    }
)


def make_strategy(
    name: str, space: SearchSpace, guesses: Sequence[Guess] | None, *, seed: int = 0, budget: int
) -> Strategy:
    """A search of that name.

    Args:
        name: key in `STRATEGIES`.
        space: what may be asked for.
        guesses: one per configuration, None where there is no model.
        seed: equal seeds and outcomes give equal questions.
        budget: how many tries are expected; a search may take more.

    Raises:
        UsageError: unknown name, or a library that is not installed.
    """
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name](space, guesses, seed, budget)


def search_budget(name: str, size: int) -> int:
    """Tries that a search is given: everything for `exhaustive`, else 15 % of the space, at least 8."""
    return size if name == "exhaustive" else min(size, max(LEAST_TRIES, int(SEARCH_SHARE * size)))
