"""A run's progress on the terminal: one bar with the time left, or one line per case where there is no terminal.

Cases differ in cost by an order of magnitude, so the bar counts expected seconds, not cases; what earlier runs measured
does not count towards the time left.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from lords_bench.terminal import Console, Watcher


@contextmanager
def steps(what: str, total: int, *, console: Console, done: int = 0) -> Iterator[Callable[[object], None]]:
    """A bar for steps that cost the same; what is given is called with each result, whatever that is."""
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda _result: progress.advance(task)


class ProgressBar(Watcher):
    """Draws a run of cases on `console`, as a context manager.

    Args:
        costs: of all cases of the run by name, those measured earlier included: expected seconds; only ratios count.
        console: where to draw; standard error keeps standard output for results.
    """

    def __init__(self, costs: Mapping[str, float], *, console: Console) -> None:
        self._costs = costs
        self._console = console
        self._finished = 0
        self._finished_cost = 0.0
        self._total = sum(costs.values())
        self._done = 0.0
        self._skipped = 0.0
        self._current = 0.0
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _TimeLeft(self),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=self._total)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace so far; None before anything was measured."""
        measured = self._done - self._skipped
        if measured <= 0:
            return None
        return (self._total - self._done) * (time.monotonic() - self._started) / measured

    def begin(self, name: str) -> None:
        """The case is being measured from now on."""
        self._current = self._costs[name]
        self._progress.update(self._task, description=f"{self._finished + 1}/{len(self._costs)} {name}")

    def advance(self, fraction: float) -> None:
        """So much of the case is done."""
        self._show(self._finished_cost + fraction * self._current)

    def end(self, name: str, failures: Sequence[str] | None) -> None:
        """The case has its records, those named failed; or records from an earlier run."""
        self._finished += 1
        self._finished_cost += self._costs[name]
        if failures is None:
            self._skipped += self._costs[name]
        self._show(self._finished_cost)
        for failure in failures or ():
            self._console.print(failure, style="yellow", highlight=False)
        if failures is not None and not self._console.is_terminal:
            left = self.seconds_left
            ending = "" if left is None else f", {clock(left)} left"
            self._console.print(f"[{self._finished}/{len(self._costs)}] {name}{ending}")

    def _show(self, done: float) -> None:
        self._done = done
        self._progress.update(self._task, completed=done)


class _TimeLeft(ProgressColumn):
    """The bar's own estimate: rich's would count what earlier runs did as the speed of this one."""

    def __init__(self, bar: ProgressBar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:  # noqa: ARG002  # rich calls it with the bar's task
        """`1:05 left`, or nothing before the first step."""
        left = self._bar.seconds_left
        return Text("" if left is None else f"{clock(left)} left")


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some: `1:05`, `2:00:00`."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
