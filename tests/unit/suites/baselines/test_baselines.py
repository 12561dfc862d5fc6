"""Every way to compute a product is held to float64, and a wrong one is caught before it is timed."""

import dataclasses

import pytest
import torch

from latency_builders import BRIEF, make_case
from lords_bench.errors import UsageError
from lords_bench.records.status import Status
from lords_bench.requirements import installed_version
from lords_bench.suites.baselines import own
from lords_bench.suites.baselines.check import as_candidate
from lords_bench.suites.baselines.libraries import NotInstalledError
from lords_bench.suites.baselines.problem import LayerProblem, Way
from lords_bench.suites.baselines.registry import WAYS, builder
from lords_bench.suites.latency.measure import TorchWorkbench
from lords_bench.suites.latency.run import methods_for
from lords_bench.timing.cpu import CpuDevice

CASE = make_case(m=3, n=128, k=256)
# Those of this project that a CPU can run, and torch's own.
ON_CPU = ("lords", "dense", "nf-dequantize", "qlora-fused", "qlora-merged", "tinygemm", "lords-reference")


def problem(dtype: torch.dtype = torch.float32) -> LayerProblem:
    return LayerProblem(CASE, device=torch.device("cpu"), dtype=dtype)


def check(way: Way, found: LayerProblem) -> str | None:
    return as_candidate("way", way, found, regime="cold", cache_bytes=None).candidate.check()


@pytest.mark.parametrize("method", ON_CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_way_is_within_its_bound(method: str, dtype: torch.dtype) -> None:
    found = problem(dtype)

    assert check(builder(method)(found), found) is None


@pytest.mark.parametrize("method", ["bitsandbytes", "bitsandbytes-dequantize"])
def test_bitsandbytes_is_within_the_bound_of_its_own_format(method: str) -> None:
    pytest.importorskip("bitsandbytes")
    found = problem()

    assert check(builder(method)(found), found) is None


@pytest.mark.parametrize("method", ON_CPU)
def test_a_result_of_another_weight_is_caught(method: str) -> None:
    found = problem()
    way = builder(method)(found)
    wrong = dataclasses.replace(way, apply=lambda operands, x_MK: way.apply(operands, x_MK) * 1.01)

    assert "times its bound" in (check(wrong, found) or "")


def test_an_element_that_nobody_writes_is_caught() -> None:
    found = problem()
    way = own.dense(found)

    def half(operands: torch.Tensor, x_MK: torch.Tensor) -> torch.Tensor:
        y_MN = torch.empty(x_MK.shape[0], operands.shape[0])
        y_MN[:, :-1] = way.apply(operands, x_MK)[:, :-1]
        return y_MN

    assert check(dataclasses.replace(way, apply=half), found) == "error is inf times its bound"


def test_a_way_that_changes_its_input_is_caught() -> None:
    found = problem()
    way = own.dense(found)
    changing = dataclasses.replace(way, apply=lambda operands, x_MK: way.apply(operands, x_MK.mul_(2)))

    assert check(changing, found) == "input 0 was changed"


def test_a_result_kept_by_the_address_of_its_input_is_caught() -> None:
    found = problem()
    way = own.dense(found)
    kept: dict[int, torch.Tensor] = {}

    def caching(operands: torch.Tensor, x_MK: torch.Tensor) -> torch.Tensor:
        return kept.setdefault(x_MK.data_ptr(), way.apply(operands, x_MK))

    assert "times its bound" in (check(dataclasses.replace(way, apply=caching), found) or "")


def test_a_result_of_another_shape_is_caught() -> None:
    found = problem()
    way = own.dense(found)
    short = dataclasses.replace(way, apply=lambda operands, x_MK: way.apply(operands, x_MK)[:, 1:])

    assert "not (3, 128)" in (check(short, found) or "")


def test_buffer_sets_share_no_memory() -> None:
    found = problem()
    seen: list[int] = []
    way = own.dense(found)
    spying = dataclasses.replace(
        way, apply=lambda operands, x_MK: (seen.append(operands.data_ptr()), seen.append(x_MK.data_ptr()))
    )

    candidate = as_candidate("way", spying, found, regime="cold", cache_bytes=100_000).candidate
    for slot in range(candidate.slots):
        candidate.launch(slot)

    assert candidate.slots > 2
    assert len(set(seen)) == 2 * candidate.slots
    assert as_candidate("way", way, found, regime="hot", cache_bytes=100_000).candidate.slots == 1


@pytest.mark.parametrize("method", ON_CPU)
def test_every_buffer_set_gives_a_result(method: str) -> None:
    found = problem()

    candidate = as_candidate(method, builder(method)(found), found, regime="cold", cache_bytes=100_000).candidate

    assert candidate.slots > 1
    for slot in range(candidate.slots):
        y_MN = candidate.launch(slot)
        assert isinstance(y_MN, torch.Tensor)
        assert bool(y_MN.isfinite().all())


def test_stored_bytes_are_those_of_the_format() -> None:
    found = problem()

    assert own.lords(found).stored_bytes * 8 / (128 * 256) == pytest.approx(
        4 + 16 * CASE.rank * (128 + 256) / (128 * 256)
    )
    assert own.nf_dequantize(found).stored_bytes * 8 / (128 * 256) == 4.25


def test_an_unknown_method_and_kernel_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown method 'marlin'; known: lords"):
        builder("marlin")
    with pytest.raises(UsageError, match="unknown kernel 'fast'"):
        builder("lords-fast")(problem())


def test_every_method_of_the_suite_has_a_way() -> None:
    assert set(WAYS) == set(methods_for(CASE))


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lords_bench.suites.baselines.libraries.installed_version", lambda _package: "0.49.1")

    with pytest.raises(NotInstalledError, match=r"bitsandbytes 0.49.1 is older than 0.50.1"):
        builder("bitsandbytes")(problem())
    assert installed_version("no-such-package") is None


def test_a_workbench_times_what_is_right_and_says_why_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    right = own.nf_dequantize

    def wrong(found: LayerProblem) -> Way:
        way = right(found)
        return dataclasses.replace(way, apply=lambda operands, x_MK: way.apply(operands, x_MK) + 1)

    def broken(_found: LayerProblem) -> Way:
        raise RuntimeError("a library's own trouble\nwith a second line")

    monkeypatch.setattr(
        "lords_bench.suites.latency.measure.builder",
        lambda method: {"nf-dequantize": wrong, "gemlite": broken}.get(method) or builder(method),
    )
    bench = TorchWorkbench(CpuDevice(), place=torch.device("cpu"), dtype=torch.float32, policy=BRIEF)

    timed = bench.time(CASE, "eager", ("lords", "dense", "nf-dequantize", "nf-block", "gemlite"))

    assert timed.comparison is not None
    assert timed.comparison.outcome("lords").status is Status.OK
    assert timed.comparison.outcome("nf-dequantize").status is Status.INCORRECT
    assert timed.failures["nf-block"][0] is Status.UNSUPPORTED
    assert timed.failures["gemlite"][0] is Status.LAUNCH_ERROR
    assert "a library's own trouble" in timed.failures["gemlite"][1]
    assert timed.built["lords"].worst_error is not None
