"""The device check, run in the interpreter: right kernels pass, and every kind of wrong one is found."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count, product

import pytest
import torch
from torch import Tensor

from lords_bench.kernel_check import (
    CHECKED,
    CheckCase,
    check,
    check_case,
    check_kernels,
    isolated,
    make_case,
)
from lords_bench.kernel_check.bounds import Expected
from lords_bench.kernel_check.cases import DTYPES, RANKS, WIDE_RANK
from lords_bench.kernel_check.training import TRAINING_CHECKS, Trial, outcome
from lords_bench.kernel_registry import KERNELS
from lords_bench.ops import lords_matmul
from lords_bench.prepared import PreparedWeight, prepare
from lords_bench.records.status import Status
from lords_bench.route import kernel_name

CPU = torch.device("cpu")


def prepared(case: CheckCase) -> PreparedWeight:
    """For kernels on a CPU, which is the interpreter, through the portable decoder."""
    return prepare(case, case.x_MK.dtype, decoder="table")


@pytest.mark.parametrize(("m", "bits"), [(1, 4), (1, 2), (20, 3)])
def test_every_kernel_is_right_or_says_why_not(m: int, bits: int) -> None:
    case = make_case(m, 24, 140, bits=bits, rank=5, dtype=torch.float32, device=CPU, seed=2)

    results = check_kernels([case], decoder="table")

    assert [result.kernel for result in results] == list(CHECKED)
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
        (raising, Status.LAUNCH_ERROR, "RuntimeError: no launch for 2 tokens and more"),
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


@pytest.mark.parametrize("kernel", ["dequantize_matmul", "fake_quantize"])
def test_a_worker_checks_a_kernel_on_a_case(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = isolated.main([f"{kernel} 9"], device=CPU, decoder="table")

    begun, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert code == 0
    assert begun == {"begin": "m1-n200-k700-b4-r5-bfloat16"}
    assert (result["kernel"], result["status"], result["reason"]) == (kernel, "ok", None)
    assert 0 <= result["worst"] <= 1


@pytest.mark.parametrize(
    ("bits", "dtype", "atomic"), [(4, torch.bfloat16, False), (3, torch.float16, True), (2, torch.float32, False)]
)
def test_kernels_of_training_are_right_for_every_width_and_dtype(bits: int, dtype: torch.dtype, atomic: bool) -> None:
    case = make_case(3, 24, 140, bits=bits, rank=5, dtype=dtype, device=CPU, seed=bits)
    names = ("factor_gradients_atomic" if atomic else "factor_gradients", "input_gradient", "fake_quantize")

    results = check_kernels([case], names=names, decoder="table")

    assert [(result.kernel, result.status, result.reason) for result in results] == [
        (name, Status.OK, None) for name in names
    ]


STEPS = count()


@pytest.mark.parametrize(
    ("spoil", "repeatable", "reason"),
    [
        (lambda found, _x: found * 1.001, True, "error of the dX is .* times its bound"),
        (lambda found, _x: torch.empty_like(found), True, "error of the dX is inf times its bound"),
        (lambda found, _x: found * (1 + 2.0**-22 * next(STEPS)), True, "a second launch gave other bits"),
        (lambda found, _x: found * (1 + 0.01 * (next(STEPS) % 2)), False, ".*bound"),
        (lambda found, x: (x.mul_(1.0001), found)[1], True, "the launch changed an input"),
    ],
    ids=["wrong", "unwritten", "not repeatable", "second launch wrong", "input changed"],
)
def test_a_broken_kernel_of_training_is_found(
    spoil: Callable[[Tensor, Tensor], Tensor], repeatable: bool, reason: str
) -> None:
    x_MK = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    expected = Expected(value=x_MK.double(), bound=x_MK.double().abs() * 2.0**-12)

    def launch() -> tuple[Tensor, ...]:
        return (spoil(x_MK.clone(), x_MK),)

    trial = Trial(
        inputs=(x_MK,),
        launch=launch,
        errors=lambda found: {"dX": (found[0].double() - expected.value).abs() / expected.bound},
    )
    status, found, _ = outcome(trial, repeatable=repeatable)

    assert status is Status.INCORRECT
    assert found is not None
    assert re.fullmatch(reason, found)


@pytest.mark.parametrize(
    ("part", "index", "value"), [("code", 1, 5), ("code", 1, 127), ("value", 0, 0.5), ("mask", 2, False)]
)
def test_a_wrong_code_value_or_mask_of_one_weight_is_found(part: str, index: int, value: float) -> None:
    case = make_case(1, 6, 40, bits=4, rank=2, dtype=torch.float32, device=CPU)
    trial = TRAINING_CHECKS["fake_quantize"].trial(case, None)
    found = [tensor.clone() for tensor in trial.launch()]
    assert outcome(trial, repeatable=True)[0] is Status.OK
    row, column = (found[2] & (found[1] > 10) & (found[1] < 15)).nonzero()[0].tolist()

    found[index][row, column] = value

    shares = trial.errors(tuple(found))
    assert float(shares[part].max()) > 1
    assert part == "code" or float(shares["code"].max()) <= 1


def test_every_width_meets_every_rank_and_dtype_in_the_cases_of_each_kernel_of_training() -> None:
    wanted = set(product((4, 3, 2), (*RANKS, WIDE_RANK), DTYPES))
    for name in TRAINING_CHECKS:
        cases = isolated.cases_of(name)

        assert {(case["bits"], case["rank"], case["dtype"]) for case in cases} == wanted, name
