"""A latency run: everything planned is done once, what was done is kept, what failed has a reason."""

import contextlib
import dataclasses
from pathlib import Path

from latency_builders import BRIEF, Silent, fake_records, make_case, make_run
from lords_bench.errors import DeviceError
from lords_bench.records.latency import LatencyCase, LatencyRecord
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.records.store import NounStore, read_nouns
from lords_bench.suites.latency.cases import LatencySuite
from lords_bench.suites.latency.fake import FakeWorkbench
from lords_bench.suites.latency.run import Timed, methods_for, run_latency

CASES = (make_case(m=1), make_case(m=256))


def go_on(folder: Path, *, seconds: float | None = None, resume: bool = True) -> tuple[Silent, int]:
    suite, watcher = LatencySuite(size="quick", title="two", cases=CASES), Silent()
    clock = iter(range(100))
    with NounStore(folder / "latency.jsonl", LatencyRecord) as store:
        left = run_latency(
            suite, make_run(is_fake=True), workbench=FakeWorkbench(policy=BRIEF), regimes=("cold", "eager"),
            store=store, watcher=watcher, seconds=seconds, resume=resume, now_s=lambda: float(next(clock)),
        )  # fmt: skip
    return watcher, left


def test_every_method_of_every_comparison_has_a_record(tmp_path: Path) -> None:
    records = fake_records(tmp_path, CASES, regimes=("cold", "hot"))

    for case in CASES:
        for regime in ("cold", "hot"):
            found = {r.method for r in records if r.case == case and r.regime == regime}
            assert found == {*methods_for(case), "dense-again"}


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    first, _ = go_on(tmp_path)
    second, _ = go_on(tmp_path)

    assert len(first.begun) == 4
    assert second.begun == []
    assert second.skipped == first.begun


def test_a_run_cut_short_goes_on_with_the_rest(tmp_path: Path) -> None:
    first, left = go_on(tmp_path, seconds=2.5)
    second, left_after = go_on(tmp_path)

    assert (len(first.begun), left) == (2, 2)
    assert (len(second.begun), left_after) == (2, 0)


def test_a_torn_last_line_costs_its_comparison_only(tmp_path: Path) -> None:
    go_on(tmp_path)
    path = tmp_path / "latency.jsonl"
    path.write_bytes(path.read_bytes()[:-100])

    again, _ = go_on(tmp_path)

    assert again.begun == [f"{CASES[1].case_id} eager"]


def test_fresh_measures_again(tmp_path: Path) -> None:
    go_on(tmp_path)

    again, _ = go_on(tmp_path, resume=False)

    assert len(again.begun) == 4
    assert len(read_nouns(tmp_path / "latency.jsonl", LatencyRecord).records) > 100


def test_a_method_that_cannot_be_built_has_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    records = fake_records(tmp_path, CASES)

    gemlite = next(record for record in records if record.method == "gemlite")
    assert gemlite.status is Status.UNSUPPORTED
    assert gemlite.reason == "gemlite is not installed; pip install gemlite"
    assert all(record.status is Status.OK for record in records if record.method == "lords")


def test_a_device_that_was_brought_down_ends_the_run_and_the_next_one_goes_on_behind(tmp_path: Path) -> None:
    class Breaking(FakeWorkbench):
        def time(self, case: LatencyCase, regime: Regime, methods: tuple[str, ...]) -> Timed:
            timed = super().time(case, regime, methods)
            if case.m != 1:
                return timed
            failures = {**timed.failures, "lords": (Status.LAUNCH_ERROR, "an illegal memory access")}
            return dataclasses.replace(timed, failures=failures, broken="an illegal memory access")

    suite = LatencySuite(size="quick", title="two", cases=CASES)
    path, begun = tmp_path / "latency.jsonl", []
    for _ in range(2):
        watcher = Silent()
        with NounStore(path, LatencyRecord) as store, contextlib.suppress(DeviceError):
            run_latency(
                suite, make_run(is_fake=True), workbench=Breaking(policy=BRIEF), regimes=("cold",), store=store,
                watcher=watcher,
            )  # fmt: skip
        begun.append((watcher.begun, watcher.failures))

    first, second = (f"{case.case_id} cold" for case in CASES)
    assert begun == [([first], [f"{first} lords: crash: an illegal memory access"]), ([second], [])]
    crashed = [r for r in read_nouns(path, LatencyRecord).records if r.status is Status.CRASH]
    assert [(record.method, record.reason) for record in crashed] == [("lords", "an illegal memory access")]


def test_kernels_by_themselves_are_methods_of_their_own() -> None:
    assert methods_for(make_case(bits=3), kernels=("scale_tile",))[-1] == "lords-scale_tile"
    assert "bitsandbytes" not in methods_for(make_case(bits=3))
