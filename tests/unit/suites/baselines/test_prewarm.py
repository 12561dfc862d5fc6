"""No timed comparison waits for a compiler: what it launches was compiled before, by other processes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import triton

from latency_builders import BRIEF, Silent, make_case, make_run
from lords_bench.kernels.common.gpu import pretended_gpu
from lords_bench.products.keys import pretended_machine
from lords_bench.records.latency import METHODS, LatencyCase, LatencyRecord
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.records.store import NounStore
from lords_bench.records.tuned import Machine
from lords_bench.static.pretended import pretended_target
from lords_bench.static.target import named_target
from lords_bench.suites.baselines.prewarm import ProblemWithoutMemory, is_compiled, prewarm
from lords_bench.suites.baselines.registry import builder
from lords_bench.suites.latency.cases import LatencySuite
from lords_bench.suites.latency.fake import FakeWorkbench
from lords_bench.suites.latency.run import Timed, methods_for, run_latency
from lords_bench.tuning.kernel_spaces import gpu_of_machine

MACHINE = Machine(gpu="Example GPU", capability=(9, 0), multiprocessors=132, driver=None, triton=triton.__version__)
# A process keeps what it compiled, so the test that compiles has an architecture to itself.
OTHER = replace(MACHINE, capability=(8, 0))
CASE = make_case(m=64)


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that this process compiled, rather than found in Triton's cache."""
    names: list[str] = []

    def listen(*, src: Any, cache_hit: bool, **_more: Any) -> None:
        if not cache_hit:
            names.append(src.name)

    monkeypatch.setattr(triton.knobs.compilation, "listener", listen)
    return names


class PretendedBench(FakeWorkbench):
    """A fake device whose methods are launched on a pretended GPU, where a launch compiles and no more."""

    def __init__(self, compiled: list[str], machine: Machine, *, prewarms: bool) -> None:
        super().__init__(policy=BRIEF)
        self.compiled, self.machine, self.prewarms = compiled, machine, prewarms
        self.launched: list[str] = []
        self.waited: list[str] = []

    def prewarm(self, wanted: Any) -> None:
        if self.prewarms:
            found = prewarm(wanted, dtype=torch.bfloat16, machine=self.machine, workers=2)
            assert {result.reason for result in found} == {None}

    def time(self, case: LatencyCase, regime: Regime, methods: tuple[str, ...]) -> Timed:
        before, gpu = len(self.compiled), gpu_of_machine(self.machine)
        with (
            pretended_target(named_target(gpu.arch), lambda launch: self.launched.append(launch.name)),
            pretended_gpu(gpu), pretended_machine(self.machine), torch.no_grad(),
        ):  # fmt: skip
            problem = ProblemWithoutMemory(case, dtype=torch.bfloat16)
            for method in filter(is_compiled, methods):
                way = builder(method)(problem)
                way.apply(way.operands, problem.draw_x())
        self.waited += self.compiled[before:]
        return super().time(case, regime, methods)


def time_all(bench: PretendedBench, folder: Path, *cases: LatencyCase) -> None:
    suite = LatencySuite(size="quick", title="small", cases=cases)
    with NounStore(folder / "latency.jsonl", LatencyRecord) as store:
        run_latency(
            suite, make_run(is_fake=True), workbench=bench, regimes=("cold",), store=store, watcher=Silent(),
            kernels=("scale_tile",),
        )  # fmt: skip


def test_nothing_is_compiled_within_a_timed_comparison(tmp_path: Path, compiled: list[str]) -> None:
    bench = PretendedBench(compiled, MACHINE, prewarms=True)

    time_all(bench, tmp_path, CASE)

    assert {"scale_tile_kernel", "blockwise_gemm_kernel"} <= set(bench.launched)
    assert bench.waited == []


def test_without_prewarming_a_comparison_waits_for_the_compiler(tmp_path: Path, compiled: list[str]) -> None:
    bench = PretendedBench(compiled, OTHER, prewarms=False)

    time_all(bench, tmp_path, make_case(m=16))

    assert bench.waited


def test_what_an_earlier_run_has_timed_is_not_compiled_again(tmp_path: Path) -> None:
    asked: list[Any] = []

    class Noting(FakeWorkbench):
        def prewarm(self, wanted: Any) -> None:
            asked.append(list(wanted))

    cases = (make_case(m=1), make_case(m=256))
    for number in (1, 2):
        suite = LatencySuite(size="quick", title="small", cases=cases[:number])
        with NounStore(tmp_path / "latency.jsonl", LatencyRecord) as store:
            run_latency(
                suite, make_run(is_fake=True), workbench=Noting(policy=BRIEF), regimes=("cold",), store=store,
                watcher=Silent(),
            )  # fmt: skip

    assert asked == [[(case, method) for method in methods_for(case)] for case in cases]


def test_every_method_of_this_project_that_launches_kernels_is_compiled_before() -> None:
    ours = {method.name for method in METHODS if is_compiled(method.name)}

    assert ours == {"lords", "nf-block", "nf-dequantize", "int-block", "qlora-fused", "qlora-merged"}
    assert is_compiled("lords-scale_tile")
    assert not is_compiled("gemlite")


def test_a_method_that_does_not_take_a_case_costs_nothing_but_its_own_row() -> None:
    (found,) = prewarm(
        [(make_case(m=64), "lords-rank_expanded")], dtype=torch.bfloat16, machine=MACHINE, workers=1
    )  # fmt: skip

    assert found.status is Status.UNSUPPORTED
