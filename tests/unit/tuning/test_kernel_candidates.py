"""Candidates of kernels, on a CPU: the plain-torch kernel goes through the same code as one of a GPU."""

from dataclasses import replace

import pytest
import torch

from lords_bench.products.registry import KERNELS
from lords_bench.records.tuned import Problem
from lords_bench.timing.cpu import CpuDevice
from lords_bench.tuning import kernel_candidates
from lords_bench.tuning.bench import Bench
from lords_bench.tuning.kernel_candidates import candidate_maker

PROBLEM = Problem(m_bucket=4, n=48, k=300, bits=3, rank=5, x_dtype="float32", scale_dtype="float16", decoder="table")


def make(cache_bytes: int | None = None, regime: str = "cold"):  # noqa: ANN201
    return candidate_maker(
        "reference",
        PROBLEM,
        cache_bytes=cache_bytes,
        regime=regime,
        device=torch.device("cpu"),  # type: ignore[arg-type]
    )


def test_a_kernel_that_is_right_passes_its_check_and_is_timed() -> None:
    device = CpuDevice()
    found = Bench(lambda _named: device, make(regime="hot"), "hot").attempt((), stop_above_ns=None)

    assert found.reason is None
    assert found.measurement is not None


def test_a_small_weight_has_as_many_copies_as_keep_it_out_of_the_cache() -> None:
    candidate = make(cache_bytes=1 << 16)((), "0")

    results = [candidate.launch(slot) for slot in range(candidate.slots)]

    assert candidate.slots > 3
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y: y * 1.001, "times its bound at row"),
        (lambda y: y.index_fill(1, torch.tensor([7]), float("nan")), "column 7"),
    ],
    ids=["a little off", "an element nobody wrote"],
)
def test_a_kernel_that_is_wrong_is_told_with_the_place(change, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN001
    right = KERNELS["reference"]
    wrong = replace(right, launch=lambda *arguments: change(right.launch(*arguments)))
    monkeypatch.setattr(kernel_candidates, "named_kernel", lambda _name: wrong)

    found = make()((), "0").check()

    assert found is not None
    assert reason in found


def test_a_kernel_whose_launches_differ_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = KERNELS["reference"]
    offsets = iter((0.0, 1e-7))
    noisy = replace(right, launch=lambda *arguments: right.launch(*arguments) * (1 + next(offsets)))
    monkeypatch.setattr(kernel_candidates, "named_kernel", lambda _name: noisy)

    assert make()((), "0").check() == "a second launch gave other bits"
