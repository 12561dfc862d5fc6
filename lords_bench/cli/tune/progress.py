"""What a tune shows: one live panel on a terminal, a line per problem elsewhere, and a table at the end."""

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lords_bench.records.status import Status
from lords_bench.records.trial import Trial
from lords_bench.terminal import Console
from lords_bench.tuning.tasks import Finished, RouteTask, Task

_REFRESH_PER_S = 8


class TuneProgress:
    """Draws a tune on `console`, as a context manager; it is the tuner's watcher.

    Args:
        problems: how many there are.
        budget_s: of the whole run; None where it takes as long as it takes.
        console: where to draw; standard error keeps standard output for results.
    """

    def __init__(self, problems: int, *, budget_s: float | None, console: Console) -> None:
        self._problems, self._budget_s, self._console = problems, budget_s, console
        self._started = time.monotonic()
        self._number = 0
        self._task: Task | RouteTask | None = None
        self._stage = ""
        self._tries = self._tried = self._new = 0
        self._best_ns: float | None = None
        self._default_ns: float | None = None
        self._failed: Counter[Status] = Counter()
        self._live = Live(
            get_renderable=self.render,
            console=console,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, task: Task | RouteTask, *, tries: int, resumed: int) -> None:
        """A problem is being tuned, or kernels are compared."""
        self._number += 1
        self._task = task
        if isinstance(task, Task):
            self._tries, self._tried = max(tries, resumed), resumed
        self._best_ns = self._default_ns = None

    def stage(self, name: str) -> None:
        """What happens now."""
        self._stage = name

    def tried(self, trial: Trial) -> None:
        """A configuration is finished with."""
        self._tried += 1
        self._new += 1
        if trial.measurement is None:
            self._failed[trial.status] += 1
            return
        assert isinstance(self._task, Task)
        time_ns = trial.measurement.median_ns
        self._best_ns = time_ns if self._best_ns is None else min(self._best_ns, time_ns)
        if trial.config == self._task.space.default:
            self._default_ns = time_ns

    def end(self, finished: Finished) -> None:
        """The problem is done."""
        if not self._console.is_terminal:
            self._console.print(
                f"[{self._number}/{self._problems}] {describe(finished)}", markup=False, highlight=False
            )

    @property
    def seconds_left(self) -> float | None:
        """Of the budget, or else at the pace so far; None before anything was tried."""
        spent = time.monotonic() - self._started
        if self._budget_s is not None:
            return max(0.0, self._budget_s - spent)
        if not self._new:
            return None
        left = (self._tries - self._tried) + (self._problems - self._number) * self._tries
        return max(0.0, spent / self._new * left)

    def render(self) -> RenderableType:
        """The panel as it stands."""
        if self._task is None:
            return Text("starting")
        left = self.seconds_left
        line = f"{self._number}/{self._problems} {self._task.label}  {self._stage}"
        facts = [f"{self._tried} of {self._tries} tried"]
        facts += [f"{count} {status}" for status, count in sorted(self._failed.items())]
        if self._best_ns is not None:
            best = f"best {self._best_ns / 1e3:.2f} µs"
            if self._default_ns is not None:
                best += f", {self._default_ns / self._best_ns:.2f}× the default's speed"
            facts.append(best)
        if left is not None:
            facts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        bar = ProgressBar(total=max(1, self._tries), completed=min(self._tried, self._tries), width=40)
        return Group(Text(line), bar, Text(" · ".join(facts), style="dim"))


def describe(finished: Finished) -> str:
    """One problem in one line."""
    found = finished.winner
    failed = Counter(trial.status for trial in finished.record.by_config.values() if trial.status is not Status.OK)
    failures = "".join(f", {count} {status}" for status, count in sorted(failed.items()))
    tried = f"{finished.tried} tried{failures}"
    if isinstance(finished.task, RouteTask):
        failed_there = sum(run_off.measurements.count(None) for run_off in finished.record.run_offs[-1:])
        tried = f"{finished.tried} kernels" + (f", {failed_there} failed" if failed_there else "")
        if found is not None:
            tried = f"{dict(found.config)['kernel']} of {tried}"
    if found is None:
        return f"{finished.task.label}: no result ({finished.refused or tried})"
    time_us = found.measurement.median_ns / 1e3
    if found.speedup is None:
        return f"{finished.task.label}: default kept, {time_us:.2f} µs ({tried})"
    gain = f"{found.speedup.median:.3f}× ({found.speedup.low:.3f} … {found.speedup.high:.3f}) the default's speed"
    return f"{finished.task.label}: {time_us:.2f} µs, {gain} ({tried})"


def result_table(finished: list[Finished], *, title: str) -> Table:
    """Every problem with what was found."""
    table = Table(
        "problem", "tried", "failed", "µs", "speed-up over the default", "as good", "configuration", title=title
    )
    for item in finished:
        failures = sum(trial.status is not Status.OK for trial in item.record.by_config.values())
        found = item.winner
        if found is None:
            table.add_row(item.task.label, str(item.tried), str(failures), "", item.refused or "no result", "", "")
            continue
        gain = "default kept"
        if found.speedup is not None:
            gain = f"{found.speedup.median:.3f} ({found.speedup.low:.3f} … {found.speedup.high:.3f})"
        changed = [f"{n}={v}" for n, v in found.config if dict(found.default).get(n) != v]
        table.add_row(
            item.task.label,
            str(item.tried),
            str(failures),
            f"{found.measurement.median_ns / 1e3:.2f}",
            gain,
            str(found.ties),
            " ".join(changed) or "as the formula says",
        )
    return table
