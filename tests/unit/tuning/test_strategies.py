"""Searches see a space, guesses and outcomes: what must hold for each of them on landscapes with cliffs."""

import math
import random

import pytest

from lords_bench.errors import UsageError
from lords_bench.records.status import Status
from lords_bench.tuning.space import SearchSpace, space_of
from lords_bench.tuning.strategies import STRATEGIES, Guess, Tried, make_strategy, run_search, search_budget


class Landscape:
    """A made-up evaluator: a bowl over three fields with a cliff, and configurations that fail."""

    def __init__(self, seed: int, *, sizes: tuple[int, int, int] = (5, 4, 3), failing: float = 0.1) -> None:
        draw = random.Random(seed)
        centre = [draw.randrange(size) for size in sizes]
        cliff = draw.randrange(sizes[0])
        grid = [(a, b, c) for a in range(sizes[0]) for b in range(sizes[1]) for c in range(sizes[2])]
        self.space: SearchSpace = space_of(
            [(("a", 2**a), ("b", 2**b), ("c", bool(c % 2)), ("d", c)) for a, b, c in grid]
        )
        self.times = [
            1000.0
            * (1 + 0.2 * sum(abs(x - y) for x, y in zip(point, centre, strict=True)))
            * (3.0 if point[0] == cliff and point[1] % 2 else 1.0)
            * (1 + 0.05 * draw.random())
            for point in grid
        ]
        self.fails = [draw.random() < failing for _ in grid]
        self.fails[0] = False
        self.guesses = [Guess(predicted_ns=time * draw.uniform(0.7, 1.4), features=(time,)) for time in self.times]
        self.asked: list[int] = []

    def evaluate(self, index: int) -> Tried:
        self.asked.append(index)
        if self.fails[index]:
            return Tried(status=Status.CRASH, median_ns=None)
        return Tried(status=Status.OK, median_ns=self.times[index])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("seed", range(3))
def test_no_search_asks_for_a_configuration_twice_and_all_find_every_one_in_the_end(name: str, seed: int) -> None:
    landscape = Landscape(seed, sizes=(3, 2, 2))
    strategy = make_strategy(name, landscape.space, landscape.guesses, seed=seed, budget=6)

    run_search(strategy, landscape, budget=1000)

    assert sorted(landscape.asked) == list(range(len(landscape.space)))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_search_starts_with_the_default(name: str) -> None:
    landscape = Landscape(3)

    assert make_strategy(name, landscape.space, landscape.guesses, seed=5, budget=9).ask(1) == [0]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_what_was_told_before_the_first_question_is_never_asked(name: str) -> None:
    landscape = Landscape(4)
    strategy = make_strategy(name, landscape.space, landscape.guesses, seed=1, budget=9)
    for index in (0, 7, 8):
        strategy.tell(index, landscape.evaluate(index))
    landscape.asked.clear()

    run_search(strategy, landscape, budget=20)

    assert len(landscape.asked) == 20
    assert not {0, 7, 8} & set(landscape.asked)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_equal_seeds_give_equal_questions(name: str) -> None:
    first, second = Landscape(6), Landscape(6)
    for landscape in (first, second):
        run_search(make_strategy(name, landscape.space, landscape.guesses, seed=2, budget=9), landscape, budget=14)

    assert first.asked == second.asked


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_space_where_nearly_everything_fails_is_searched_to_its_end(name: str) -> None:
    landscape = Landscape(7, sizes=(3, 2, 2))
    landscape.fails = [index != 5 for index in range(len(landscape.space))]

    history = run_search(
        make_strategy(name, landscape.space, landscape.guesses, seed=0, budget=8), landscape, budget=99
    )

    assert [index for index, outcome in history if outcome.status is Status.OK] == [5]


def test_the_default_search_beats_a_random_one_on_made_up_landscapes_with_cliffs() -> None:
    """Mean regret after 15 % of 10 landscapes whose model is off by up to 40 %: a search that learned nothing fails."""
    regret = {"ranked": 0.0, "random": 0.0}
    for seed in range(10):
        for name in regret:
            landscape = Landscape(seed, sizes=(8, 6, 4))
            tries = search_budget(name, len(landscape.space))
            strategy = make_strategy(name, landscape.space, landscape.guesses, seed=seed, budget=tries)
            found = [o.median_ns for _, o in run_search(strategy, landscape, budget=tries) if o.median_ns is not None]
            best = min(t for t, fails in zip(landscape.times, landscape.fails, strict=True) if not fails)
            regret[name] += math.log(min(found) / best) / 10

    assert regret["ranked"] < 0.01
    assert regret["random"] > 3 * regret["ranked"]


def test_without_a_model_the_default_search_still_learns() -> None:
    landscape = Landscape(11, sizes=(8, 6, 4), failing=0.0)
    strategy = make_strategy("ranked", landscape.space, None, seed=0, budget=40)

    found = [outcome.median_ns or math.inf for _, outcome in run_search(strategy, landscape, budget=40)]

    assert min(found) < 1.1 * min(landscape.times)


def test_an_unknown_search_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown strategy 'magic'; known: ranked, tpe, random, exhaustive"):
        make_strategy("magic", Landscape(0).space, None, budget=1)


@pytest.mark.parametrize(("size", "tries"), [(420, 63), (60, 9), (10, 8), (3, 3)])
def test_a_search_may_try_fifteen_percent_but_at_least_eight(size: int, tries: int) -> None:
    assert search_budget("ranked", size) == tries


def test_an_exhaustive_search_tries_everything() -> None:
    assert search_budget("exhaustive", 420) == 420
