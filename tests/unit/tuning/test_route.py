"""The choice between kernels: their winners in one comparison, from rows to the entry that `explain` names."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lords_bench.cli.parser import build_parser
from lords_bench.errors import DeviceError
from lords_bench.kernels.common.without_memory import weight_without_memory
from lords_bench.products.route import kernels_for
from lords_bench.products.tables import write_entry
from lords_bench.records.journal import read_journal
from lords_bench.records.trial import RunOff, Settings, Trial, choice_of
from lords_bench.records.tuned import ROUTE, Problem
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.fake import FakeDevice
from lords_bench.tuning.bench import Attempt, Bench, Duel
from lords_bench.tuning.devices import between_kernels
from lords_bench.tuning.plan import FAKE_MACHINE, make_route, make_task
from lords_bench.tuning.problems import lords_problem
from lords_bench.tuning.process import EvaluationProcess
from lords_bench.tuning.rows import Rows
from lords_bench.tuning.tasks import Finished, Options, RouteTask, Task
from lords_bench.tuning.tuner import tune
from lords_bench.tuning.winner import table_entry
from tuner_child import Silent

PROBLEM = lords_problem(m=16, n=1024, k=1024, bits=4, rank=16, x_dtype="bfloat16")
KERNELS = kernels_for(16, weight_without_memory(PROBLEM))
SLOW = dict.fromkeys(KERNELS, 20_000.0)


class Process(EvaluationProcess):
    """An evaluation process in this one, on a fake device on which a kernel takes the time that is given for it."""

    def __init__(self, times_ns: Mapping[str, float], *, dies_at: str | None = None) -> None:
        super().__init__("fake")
        self.times_ns, self.dies_at = times_ns, dies_at
        self.run_offs: list[tuple[str, tuple[Settings, ...]]] = []

    def open(self, kernel: str, problem: Problem) -> None:
        assert problem == PROBLEM
        self.kernel = kernel
        if kernel == self.dies_at:
            raise KeyboardInterrupt

    def attempt(self, config: Settings, *, stop_above_ns: float | None) -> Attempt:
        return self._bench().attempt(config, stop_above_ns)

    def run_off(self, configs: tuple[Settings, ...], *, quick: bool) -> Duel:
        self.run_offs.append((self.kernel, configs))
        return self._bench().run_off(configs, quick=quick)

    def _bench(self) -> Bench:
        return Bench(lambda named: FakeDevice(truth_ns={n: self._time(c) for n, c in named.items()}), make, "cold")

    def _time(self, config: Settings) -> float:
        return self.times_ns[choice_of(config).kernel if self.kernel == ROUTE else self.kernel]


def make(_config: Settings, name: str) -> Candidate:
    return Candidate(name=name, launch=lambda _slot: None, check=lambda: None)


def tasks(problem: Problem = PROBLEM, kernels: tuple[str, ...] = KERNELS) -> list[Task | RouteTask]:
    """As the command line makes them, with times that count as measured."""
    members = [replace(make_task(name, problem, FAKE_MACHINE, "fake"), evidence="measured") for name in KERNELS]
    return [*(task for task in members if task.key.kernel in kernels), make_route(problem, members)]


def run(folder: Path, process: Process, todo: list[Task | RouteTask]) -> list[Finished]:
    finished: list[Finished] = []
    with process:
        tune(
            todo, folder=folder, process=process, options=Options(strategy="random", run_id="test"), watcher=Silent(),
            on_finished=finished.append, on_rejected=lambda _path, _line: None,
        )  # fmt: skip
    return finished


def explained(capsys: pytest.CaptureFixture[str], folder: Path, m: int) -> dict[str, str]:
    words = ["explain", str(m), "1024", "1024", "--device", "fake", "--tables", str(folder)]
    arguments = build_parser().parse_args(words)
    assert arguments.run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:14].strip(): line[14:].strip() for line in lines}


def write(finished: Finished, folder: Path) -> None:
    assert finished.winner is not None
    write_entry(table_entry(finished.record, finished.winner, measured_on="2026-11-22", commit=None), folder=folder)


def test_the_kernel_of_the_formula_comes_first_among_those_that_take_the_problem() -> None:
    assert KERNELS == ("scale_tile", "scale_tile_gemm", "dequantize_matmul")


def test_a_faster_kernel_changes_the_route_and_explain_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = Process(SLOW | {"scale_tile_gemm": 15_000.0})

    *_, route = run(tmp_path, process, tasks())
    write(route, tmp_path / "tables")
    found = explained(capsys, tmp_path / "tables", 16)

    assert found["kernel"] == "scale_tile_gemm"
    assert found["origin"] == "exact: choice between kernels, tuned for this problem on this machine"
    assert found["default"].startswith("scale_tile with ")
    assert found["margin"].startswith("1.3")


def test_kernels_that_tie_leave_the_route_to_the_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *_, route = run(tmp_path, Process(SLOW), tasks())
    write(route, tmp_path / "tables")
    found = explained(capsys, tmp_path / "tables", 16)

    assert found["kernel"] == "scale_tile"
    assert found["origin"].startswith("exact: choice between kernels")
    assert found["margin"] == "none: the default itself was the best"


def test_a_slower_kernel_never_gets_the_route(tmp_path: Path) -> None:
    *_, route = run(tmp_path, Process(SLOW | {"scale_tile": 10_000.0}), tasks())

    assert route.winner is not None
    assert (route.winner.config, route.winner.speedup) == (route.winner.default, None)


def test_of_two_equally_faster_kernels_the_first_is_taken(tmp_path: Path) -> None:
    *_, route = run(tmp_path, Process(SLOW | {"scale_tile_gemm": 10_000.0, "dequantize_matmul": 10_000.0}), tasks())

    assert route.winner is not None
    assert choice_of(route.winner.config).kernel == "scale_tile_gemm"
    assert route.winner.ties == 2


def test_a_tune_that_dies_before_the_route_goes_on_there_and_compares_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Process(SLOW, dies_at=ROUTE), tasks())
    rows = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl") if ROUTE not in path.name}
    assert read_journal(tmp_path / "route.runoffs.jsonl", RunOff).records == ()

    second = Process(SLOW)
    run(tmp_path, second, tasks())
    third = Process(SLOW)
    *_, route = run(tmp_path, third, tasks())

    assert [kernel for kernel, _ in second.run_offs] == [ROUTE]
    assert third.run_offs == []
    assert route.winner is not None
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl") if ROUTE not in path.name} == rows


def test_the_comparison_is_of_what_each_kernel_won_with_and_is_made_again_when_that_changes(tmp_path: Path) -> None:
    *kernels, route = run(tmp_path, Process(SLOW), tasks())
    chosen = [(("kernel", item.task.key.kernel), *item.winner.config) for item in kernels if item.winner is not None]
    (run_off,) = route.record.run_offs

    (tmp_path / "dequantize_matmul.trials.jsonl").unlink()
    (tmp_path / "dequantize_matmul.runoffs.jsonl").unlink()
    *_, without = run(tmp_path, Process(SLOW), tasks(kernels=("scale_tile",)))

    assert list(run_off.configs) == chosen
    assert without.record.run_offs[-1].configs == run_off.configs[:2]


def test_kernels_that_were_tuned_earlier_take_part(tmp_path: Path) -> None:
    run(tmp_path, Process(SLOW), tasks()[:1])

    *_, route = run(tmp_path, Process(SLOW | {"dequantize_matmul": 5_000.0}), tasks(kernels=("dequantize_matmul",)))

    assert route.winner is not None
    assert choice_of(route.winner.config).kernel == "dequantize_matmul"


@pytest.mark.parametrize(
    ("tuned", "reason"),
    [
        (("scale_tile",), "only scale_tile has a result, not scale_tile_gemm, not dequantize_matmul"),
        (("scale_tile_gemm", "dequantize_matmul"), "scale_tile, which the formula takes, has no result"),
    ],
)
def test_without_two_kernels_to_compare_there_is_no_row_and_the_reason_is_told(
    tuned: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    *_, route = run(tmp_path, Process(SLOW), tasks(kernels=tuned))

    assert route.winner is None
    assert route.refused is not None
    assert reason in route.refused
    assert route.record.run_offs == ()


def test_a_comparison_that_cannot_be_set_up_is_told_and_leaves_no_row(tmp_path: Path) -> None:
    class Refusing(Process):
        def run_off(self, configs: tuple[Settings, ...], *, quick: bool) -> Duel:
            if self.kernel == ROUTE:
                raise DeviceError("no memory")
            return super().run_off(configs, quick=quick)

    *_, route = run(tmp_path, Refusing(SLOW), tasks())

    assert (route.winner, route.refused) == (None, "no memory")
    assert route.record.run_offs == ()


def test_a_candidate_between_kernels_is_made_by_its_own_kernel() -> None:
    made: list[tuple[str, Settings]] = []

    def maker(kernel: str) -> Callable[[Settings, str], Candidate]:
        def make_and_tell(settings: Settings, name: str) -> Candidate:
            made.append((kernel, settings))
            return make(settings, name)

        return make_and_tell

    candidate = between_kernels(maker)((("kernel", "scale_tile"), ("block_n", 64)), "7")

    assert made == [("scale_tile", (("block_n", 64),))]
    assert candidate.name == "7"


def test_a_tune_on_the_fake_device_compares_kernels_through_the_real_process(tmp_path: Path) -> None:
    with EvaluationProcess("fake") as process:
        finished: list[Finished] = []
        members = [make_task(name, PROBLEM, FAKE_MACHINE, "fake") for name in KERNELS[1:]]
        tune(
            [*members, make_route(PROBLEM, members)], folder=tmp_path, process=process,
            options=Options(strategy="random", run_id="test"), watcher=Silent(), on_finished=finished.append,
            on_rejected=lambda _path, _line: None,
        )  # fmt: skip

    route = finished[-1]
    assert route.winner is not None
    assert {choice_of(config).kernel for config in route.record.run_offs[0].configs} == set(KERNELS[1:])
    with Rows(tmp_path, ROUTE) as rows:
        assert rows.record(route.task.key, "fake").run_offs == route.record.run_offs
    assert read_journal(tmp_path / "route.trials.jsonl", Trial).records == ()
