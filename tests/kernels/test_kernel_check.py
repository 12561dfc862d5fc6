"""The device check, run in the interpreter: right kernels pass, and every kind of wrong one is found."""

import json
import re
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import Tensor

from lords_bench.dispatch import kernel_name
from lords_bench.kernel_check import CheckCase, check, check_case, check_kernels, isolated, make_case, prepared_for
from lords_bench.kernel_registry import KERNELS, Kernel
from lords_bench.ops import lords_matmul
from lords_bench.prepared import PreparedWeight, prepare
from lords_bench.records.status import Status

CPU = torch.device("cpu")


def prepared(case: CheckCase) -> PreparedWeight:
    """For kernels on a CPU, which is the interpreter, through the portable decoder."""
    return prepare(case, case.x_MK.dtype, decoder="table")


def interpreted(kernel: Kernel, case: CheckCase) -> object:
    """The same for a kernel of any kind of weight."""
    return prepared_for(kernel, case, "table")


@pytest.mark.parametrize(("m", "bits"), [(1, 4), (1, 2), (20, 3)])
def test_every_kernel_of_the_registry_is_right_or_says_why_not(m: int, bits: int) -> None:
    case = make_case(m, 70, 300, bits=bits, rank=5, dtype=torch.float32, device=CPU, seed=2)

    results = check_kernels([case], prepare_case=interpreted)

    assert [result.kernel for result in results] == list(KERNELS)
    assert {result.kernel: result.reason for result in results if result.status is Status.INCORRECT} == {}
    assert all(result.status in (Status.OK, Status.UNSUPPORTED) for result in results), results
    assert m > 1 or all(result.status is Status.OK for result in results)


def test_levels_off_the_7_bit_grid_are_refused_by_the_integer_kernel_with_a_reason() -> None:
    case = make_case(1, 16, 128, bits=4, rank=16, dtype=torch.float32, device=CPU, seed=1)

    result = check(KERNELS["rank_expanded"], case, prepared(case))

    assert result.status is Status.UNSUPPORTED
    assert result.reason == "A is trained, or the levels are off the 7-bit grid; use scale_tile"


def raising(x_MK: Tensor, _weight: PreparedWeight, _bias_N: Tensor | None, _config: object) -> Tensor:
    raise RuntimeError(f"no launch for {x_MK.shape[0]} tokens\nand more")


CALLS = count()


def unrepeatable(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: object) -> Tensor:
    return KERNELS["reference"].launch(x_MK, weight, bias_N, config) * (1 + 2.0**-22 * next(CALLS))


def unwritten(x_MK: Tensor, weight: PreparedWeight, _bias_N: Tensor | None, _config: object) -> Tensor:
    return torch.empty(x_MK.shape[0], weight.n)


@pytest.mark.parametrize(
    ("launch", "status", "reason"),
    [
        (lambda *a: KERNELS["reference"].launch(*a) * 1.001, Status.INCORRECT, "error is .* times its bound"),
        (unwritten, Status.INCORRECT, "error is inf times its bound"),
        (raising, Status.LAUNCH_ERROR, "RuntimeError: no launch for 2 tokens"),
        (unrepeatable, Status.INCORRECT, "a second launch gave other bits"),
    ],
    ids=["wrong", "unwritten", "raising", "not repeatable"],
)
def test_a_broken_kernel_is_found(launch: object, status: Status, reason: str) -> None:
    case = make_case(2, 20, 130, bits=4, rank=5, dtype=torch.float32, device=CPU)
    broken = replace(KERNELS["reference"], launch=launch)

    result = check_case(broken, case)

    assert result.status is status
    assert result.reason is not None
    assert re.fullmatch(reason, result.reason)


@pytest.mark.parametrize("m", [1, 20])
def test_the_operator_runs_the_kernel_of_the_table(m: int) -> None:
    case = make_case(m, 70, 300, bits=4, rank=5, dtype=torch.float32, device=CPU, seed=2)
    weight = prepared(case)

    y_MN = lords_matmul(case.x_MK, weight, case.bias_N)

    name = kernel_name(m, torch.float32, weight)
    assert name == {1: "rank_expanded", 20: "scale_tile"}[m]
    assert torch.equal(y_MN, KERNELS[name].launch(case.x_MK, weight, case.bias_N, None))


def test_gradients_of_the_kernels_agree_with_the_reference() -> None:
    case = make_case(6, 70, 300, bits=4, rank=5, dtype=torch.float32, device=CPU, seed=2)
    found = []
    for weight in (prepared(case), prepare(case, torch.float32)):
        x_MK = case.x_MK.clone().requires_grad_()
        b_NR, a_RK = case.b_NR.float().requires_grad_(), case.a_RK.float().requires_grad_()
        y_MN = lords_matmul(x_MK, weight.with_factors(b_NR, a_RK))
        found.append(torch.autograd.grad(y_MN.square().sum(), (x_MK, b_NR, a_RK)))

    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_worker_checks_a_registered_kernel_on_the_first_case(capsys: pytest.CaptureFixture[str]) -> None:
    code = isolated.main("rank_expanded", 0, device=CPU, decoder="table", last=1)

    begun, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert code == 0
    assert begun == {"begin": "m1-n256-k1024-b4-r16-bfloat16"}
    assert (result["kernel"], result["status"], result["reason"]) == ("rank_expanded", "ok", None)
    assert 0 < result["worst"] <= 1
