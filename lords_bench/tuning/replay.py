"""A recorded table as an `Evaluator`, and the regret of a search on it: searches are compared with no device at all."""

from collections.abc import Sequence
from pathlib import Path

from lords_bench.errors import RecordError
from lords_bench.records.journal import read_journal
from lords_bench.records.status import Status
from lords_bench.records.tuning_table import TuningTable
from lords_bench.tuning import cpu_product
from lords_bench.tuning.model import gpu_model, guess
from lords_bench.tuning.space import SearchSpace, space_of
from lords_bench.tuning.strategies import Guess, Tried, make_strategy, run_search


class Replay:
    """Answers from a table; counts what it was asked."""

    def __init__(self, table: TuningTable, guesses: Sequence[Guess] | None = None) -> None:
        self.table = table
        self.guesses = guesses
        self._space = space_of(table.configs)

    @property
    def space(self) -> SearchSpace:
        """The table's configurations, in its order."""
        return self._space

    def evaluate(self, index: int) -> Tried:
        """What the table says."""
        row = self.table.rows[index]
        return Tried(status=row.status, median_ns=row.median_ns)


def read_tables(path: Path) -> tuple[TuningTable, ...]:
    """Every table of a file.

    Raises:
        RecordError: no such file, or a line that cannot be believed: a search is judged on all tables or on none.
        StoreError: the file cannot be read.
    """
    found = read_journal(path, TuningTable)
    if found.rejected:
        first = found.rejected[0]
        raise RecordError(f"{str(path)!r} line {first.line}: {first.reason}; record the table again")
    if not found.records:
        command = "python -m lords_bench.suites.studies.tuning_tables"
        raise RecordError(f"no tuning table in {str(path)!r}; record one with `{command}`")
    return found.records


def guesses_for(table: TuningTable) -> tuple[Guess, ...]:
    """What the tuner would have guessed for the table's configurations before trying any."""
    kernel, problem, machine = table.key.kernel, table.key.problem, table.key.machine
    gpu = None
    if kernel != cpu_product.NAME:
        gpu = gpu_model(machine.gpu, machine.capability, machine.multiprocessors)
    return tuple(guess(kernel, config, problem, gpu) for config in table.configs)


def regret_curve(replay: Replay, strategy: str, *, seed: int, tries: int) -> tuple[float, ...]:
    """Best time found after 1, 2, … `tries` tries, over the table's best, minus 1; infinite before the first success.

    A search that stops early keeps its last value.
    """
    search = make_strategy(strategy, replay.space, replay.guesses, seed=seed, budget=tries)
    best, curve = float("inf"), []
    for _, outcome in run_search(search, replay, budget=tries):
        if outcome.status is Status.OK and outcome.median_ns is not None:
            best = min(best, outcome.median_ns)
        curve.append(best / replay.table.best_ns - 1)
    return (*curve, *[curve[-1]] * (tries - len(curve)))
