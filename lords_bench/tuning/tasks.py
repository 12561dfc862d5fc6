"""What the tuner is asked for, what it gives, and who is told meanwhile. Nouns only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lords_bench.options import NOT_NEGATIVE, SECONDS, SEED
from lords_bench.records.status import Status
from lords_bench.records.trial import Evidence, MachineCode, Settings, Trial, TuningRecord
from lords_bench.records.tuned import Problem, TunedKey
from lords_bench.tuning.space import SearchSpace
from lords_bench.tuning.strategies import Guess
from lords_bench.tuning.winner import Winner


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """What is known of a configuration before it is run; a status other than ok means that it need not be.

    Attributes:
        launch: stands for machine code and launch; configurations that share it share one measurement.
    """

    status: Status = Status.OK
    reason: str | None = None
    code: MachineCode | None = None
    launch: str | None = None
    compile_ns: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One problem to tune.

    Attributes:
        inspect: compiles the configurations; None where there is nothing to compile.
    """

    key: TunedKey
    evidence: Evidence
    space: SearchSpace
    guesses: tuple[Guess, ...] | None
    inspect: Callable[[Sequence[Settings]], Sequence[Inspected]] | None = None

    @property
    def label(self) -> str:
        return f"{self.key.kernel} {_label(self.key.problem)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteTask:
    """One choice between kernels to make, once each has been tuned.

    Attributes:
        key: of `ROUTE`.
        members: the kernels that take the problem, that of the formula first; their rows are on disk.
    """

    key: TunedKey
    evidence: Evidence
    members: tuple[Task, ...]

    @property
    def label(self) -> str:
        return f"route {_label(self.key.problem)}"


def _label(problem: Problem) -> str:
    scale = f"r{problem.rank}"
    if problem.block is not None:
        scale = f"g{problem.block} {problem.decoder}" + (" zero points" if problem.zero_points else "")
    return f"M{problem.m_bucket} {problem.n}×{problem.k} {problem.bits}b {scale}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """How the tuning of one problem, or a choice between kernels, ended.

    Attributes:
        tried: configurations with a row, those of earlier runs included; kernels that were compared.
        in_time: whether the search came to its end within the budget.
        refused: why the problem could not be set up on the device; None where it could.
    """

    task: Task | RouteTask
    record: TuningRecord
    winner: Winner | None
    tried: int
    in_time: bool
    refused: str | None = None


class TuneWatcher(Protocol):
    """Is told what the tuner does; `cli.tune.progress` draws it."""

    def begin(self, task: Task | RouteTask, *, tries: int, resumed: int) -> None:
        """A problem is being tuned: how many tries are expected (0 for a route), how many earlier runs had made."""

    def stage(self, name: str) -> None:
        """What happens now: `compiling`, `searching`, `final`, `confirming`, `comparing kernels`."""

    def tried(self, trial: Trial) -> None:
        """A configuration is finished with."""

    def end(self, finished: Finished) -> None:
        """The problem is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How to tune.

    Attributes:
        strategy: name of the search.
        budget_s: wall-clock seconds for all problems together; None = as long as it takes.
        least_s: of a budget, what a problem is given at least; problems that it does not reach are left for the next
            run. 0 = all share the budget.
        quick: run-offs by the quick policy.
        retry_failed: whether configurations that failed in an earlier run are tried again.
        seed: of the search.

    Raises:
        UsageError: a time or seed that no search has.
    """

    strategy: str
    run_id: str
    budget_s: float | None = None
    least_s: float = 0.0
    quick: bool = True
    retry_failed: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget_s is not None:
            SECONDS.check("budget_s", self.budget_s)
        NOT_NEGATIVE.check("least_s", self.least_s)
        SEED.check("seed", self.seed)
