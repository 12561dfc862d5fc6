"""The kernels of this project, compiled for GPUs that are not there and executed in the emulator.

One case of every kernel on two architectures each time; the whole grid of cases, more architectures, odd calls, and
samples of every search space where `slow` is asked for.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lords_bench.emulator import EmulatedDevice, FaultKind
from lords_bench.emulator.global_memory import sparse_zeros
from lords_bench.errors import UsageError
from lords_bench.kernel_check import CHECKED, CheckResult, emulated, make_case, prepared_for
from lords_bench.kernel_check.cases import WIDE_RANK
from lords_bench.kernel_check.check import expected_and_bound
from lords_bench.kernel_check.emulated import check_emulated, counted_faults, emulated_target, excuse, main
from lords_bench.kernel_check.isolated import cases_of
from lords_bench.kernel_check.training import TRAINING_CHECKS
from lords_bench.kernels.common.entry import kernel_module
from lords_bench.kernels.common.prepared import operands_of
from lords_bench.products.keys import problem_of
from lords_bench.products.registry import KERNELS
from lords_bench.records.status import Status
from ptx_texts import run

pytest.importorskip("triton")

CPU = torch.device("cpu")
COMPILED = tuple(name for name in CHECKED if (TRAINING_CHECKS.get(name) or KERNELS[name]).is_compiled)
TARGETS = ("sm_80", "sm_90")
# Few tokens for the kernels of few; a ragged tile for the others.
TOKENS = {"rank_expanded": 2, "scale_tile": 5, "blockwise": 5}
# Widths, ranks and dtypes go round, so that each target meets all of them.
TURNS = ((4, 16, torch.bfloat16), (3, 5, torch.float16), (2, 16, torch.bfloat16), (4, 5, torch.float16))


@pytest.mark.parametrize("kernel", COMPILED)
@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_is_right_when_it_is_compiled_and_emulated(target: str, kernel: str) -> None:
    bits, rank, dtype = TURNS[(COMPILED.index(kernel) + TARGETS.index(target)) % len(TURNS)]
    case = make_case(TOKENS.get(kernel, 40), 130, 300, bits=bits, rank=rank, dtype=dtype, device=CPU)

    with emulated_target(target) as device:
        result = check_emulated(kernel, case, device)

    assert (result.status, result.reason) == (Status.OK, None)
    assert device.launches
    assert all(launch.target.removesuffix("a") == target for launch in device.launches)


@pytest.mark.parametrize("kernel", ["scale_tile", "scale_tile_gemm", "dequantize_matmul", "factor_gradients"])
def test_a_rank_of_a_70b_layer_is_right_when_it_is_compiled_and_emulated(kernel: str) -> None:
    case = make_case(TOKENS.get(kernel, 40), 130, 300, bits=4, rank=WIDE_RANK, dtype=torch.bfloat16, device=CPU)

    with emulated_target("sm_90") as device:
        result = check_emulated(kernel, case, device)

    assert (result.status, result.reason) == (Status.OK, None)


@pytest.mark.parametrize("kernel", ["rank_expanded", "scale_tile", "blockwise"])
def test_a_last_program_with_fewer_tiles_than_the_others_reads_nothing_past_the_end(kernel: str) -> None:
    case = make_case(1, 5 * 64, 256, bits=4, rank=16, dtype=torch.bfloat16, device=CPU, seed=2)
    found = KERNELS[kernel]

    with emulated_target("sm_90") as device:
        weight = prepared_for(found, case)
        assert found.tuning is not None
        config = found.tuning.config()(block_n=64, tiles_per_program=2)
        y_MN = found.launch(case.x_MK, weight, case.bias_N, config)
    expected, bound = expected_and_bound(kernel, case, weight)

    assert device.launches
    assert counted_faults(device) == ()
    assert float(((y_MN.double() - expected).abs() / bound).nan_to_num(nan=torch.inf).max()) <= 1


@pytest.mark.parametrize("kernel", ["input_gradient", "scale_tile_gemm", "blockwise_gemm"])
def test_float32_that_no_tensor_core_multiplies_is_refused_and_not_called_wrong(kernel: str) -> None:
    case = make_case(3, 130, 300, bits=4, rank=16, dtype=torch.float32, device=CPU)

    with emulated_target("sm_90") as device:
        result = check_emulated(kernel, case, device)

    assert result.status is Status.UNSUPPORTED
    assert result.reason is not None
    assert "no tensor core" in result.reason


@pytest.mark.slow
@pytest.mark.parametrize("kernel", COMPILED)
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_120", "sm_89"])
def test_every_case_of_the_check_is_right(target: str, kernel: str) -> None:
    wrong = []
    for arguments in cases_of(kernel):
        with emulated_target(target) as device:
            result = check_emulated(kernel, make_case(**arguments, device=CPU), device)
        if result.status not in (Status.OK, Status.UNSUPPORTED):
            wrong.append((result.case, result.status, result.reason))

    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [name for name in KERNELS if KERNELS[name].tuning is not None])
@pytest.mark.parametrize("target", TARGETS)
def test_samples_of_every_search_space_are_right(target: str, kernel: str) -> None:
    tokens, found = TOKENS.get(kernel, 40), KERNELS[kernel]
    assert found.tuning is not None
    wrong = []
    for bits in (4, 3, 2):
        case = make_case(tokens, 130, 700, bits=bits, rank=16, dtype=torch.bfloat16, device=CPU, seed=2)
        with emulated_target(target) as device:
            weight = prepared_for(found, case)
            expected, bound = expected_and_bound(kernel, case, weight)
            configs = found.tuning.space(problem_of(tokens, weight))
            for place in np.random.default_rng(bits).choice(len(configs), min(6, len(configs)), replace=False):
                device.launches.clear()
                y_MN = found.launch(case.x_MK, weight, case.bias_N, configs[place])
                worst = float(((y_MN.double() - expected).abs() / bound).nan_to_num(nan=torch.inf).max())
                if worst > 1 or counted_faults(device):
                    wrong.append((bits, configs[place], worst, [str(fault) for fault in counted_faults(device)]))

    assert wrong == []


def strided(x_MK: Tensor) -> Tensor:
    """The same values, each row apart from the next and from its own elements."""
    wide = torch.full((x_MK.shape[0], 3 * x_MK.shape[1] + 1), float("nan"), dtype=x_MK.dtype)
    view = wide[:, 1::3]
    view.copy_(x_MK)
    return view


def misaligned(x_MK: Tensor) -> Tensor:
    """The same values, one element behind an aligned address."""
    flat = torch.full((x_MK.numel() + 1,), float("nan"), dtype=x_MK.dtype)
    view = flat[1:].view(x_MK.shape)
    view.copy_(x_MK)
    return view


def far_apart(x_MK: Tensor) -> Tensor:
    """The same values in rows 2^30 elements apart, so that the last ones lie beyond 2^31."""
    memory = sparse_zeros((x_MK.shape[0] - 1) * 2**30 + x_MK.shape[1], np.int16)
    view = torch.from_numpy(memory).as_strided(x_MK.shape, (2**30, 1)).view(x_MK.dtype)
    view.copy_(x_MK)
    return view


@pytest.mark.slow
@pytest.mark.parametrize("change", [strided, misaligned, far_apart])
@pytest.mark.parametrize("kernel", ["rank_expanded", "scale_tile", "scale_tile_gemm", "blockwise", "blockwise_gemm"])
@pytest.mark.parametrize("target", TARGETS)
def test_tokens_may_lie_anywhere(target: str, kernel: str, change: Callable[[Tensor], Tensor]) -> None:
    case = make_case(3 if kernel in TOKENS else 5, 70, 300, bits=4, rank=16, dtype=torch.bfloat16, device=CPU)
    case = replace(case, x_MK=change(case.x_MK))

    with emulated_target(target) as device:
        weight = prepared_for(KERNELS[kernel], case)
        y_MN = KERNELS[kernel].launch(case.x_MK, weight, case.bias_N, None)
        expected, bound = expected_and_bound(kernel, case, weight)

    assert device.launches
    assert counted_faults(device) == ()
    assert float(((y_MN.double() - expected).abs() / bound).nan_to_num(nan=torch.inf).max()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["scale_tile", "scale_tile_gemm"])
def test_a_result_may_be_asked_into_rows_beyond_two_to_the_31(kernel: str) -> None:
    case = make_case(4, 70, 300, bits=4, rank=16, dtype=torch.bfloat16, device=CPU)
    memory = sparse_zeros(3 * 2**30 + 70, np.int16)
    out = torch.from_numpy(memory).as_strided((4, 70), (2**30, 1)).view(torch.bfloat16)

    with emulated_target("sm_90") as device:
        weight = prepared_for(KERNELS[kernel], case)
        launch = kernel_module(f"{kernel}.launch").launch
        launch(case.x_MK, operands_of(weight), bias_N=case.bias_N, out=out)
        expected, bound = expected_and_bound(kernel, case, weight)

    assert device.launches
    assert counted_faults(device) == ()
    assert float(((out.double() - expected).abs() / bound).nan_to_num(nan=torch.inf).max()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["rank_expanded", "scale_tile", "scale_tile_gemm", "dequantize_matmul", "blockwise"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_smallest_product_is_right(target: str, kernel: str) -> None:
    case = make_case(1, 1, 1, bits=4, rank=1, dtype=torch.float16, device=CPU)

    with emulated_target(target) as device:
        result = check_emulated(kernel, case, device)

    assert (result.status, result.reason) == (Status.OK, None)


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "kernel", ["scale_tile", "scale_tile_gemm", "dequantize_matmul", "blockwise", "blockwise_gemm"]
)
def test_a_number_that_is_none_stays_in_its_row(kernel: str, value: float) -> None:
    case = make_case(5, 70, 300, bits=4, rank=16, dtype=torch.bfloat16, device=CPU)
    clean = case.x_MK.clone()
    case.x_MK[2, 7] = value

    with emulated_target("sm_90") as device:
        weight = prepared_for(KERNELS[kernel], case)
        y_MN = KERNELS[kernel].launch(case.x_MK, weight, case.bias_N, None)
        expected, bound = expected_and_bound(kernel, replace(case, x_MK=clean), weight)

    others = torch.tensor([0, 1, 3, 4])
    assert counted_faults(device) == ()
    assert not y_MN[2].isfinite().any()
    assert bool(((y_MN.double() - expected).abs() <= bound)[others].all())


def faulty_check(device: EmulatedDevice, status: Status) -> Callable[..., CheckResult]:
    """In place of `check_named`: a launch with faults."""

    def check(name: str, case: Any, _decoder: object) -> CheckResult:
        body = "".join(f"ld.global.b32 %r3, [%rd0+{64 + 4 * i}]; " for i in range(5))
        device.launches.append(run(body, torch.zeros(4)))
        reason = None if status is Status.OK else "wrong anyway"
        return CheckResult(kernel=name, case=case.name, status=status, reason=reason, worst=0.5)

    return check


@pytest.mark.parametrize("status", [Status.OK, Status.INCORRECT])
def test_a_result_within_its_bound_is_wrong_if_there_was_a_fault(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(1, 16, 32, bits=4, rank=1, dtype=torch.float16, device=CPU)

    with emulated_target("sm_90") as device:
        monkeypatch.setattr(emulated, "check_named", faulty_check(device, status))
        result = check_emulated("scale_tile", case, device)

    assert result.status is Status.INCORRECT
    assert result.reason is not None
    if status is Status.OK:
        assert "global access out of bounds: ptx:" in result.reason
        assert result.reason.endswith("| and 2 more faults")
    else:
        assert result.reason == "wrong anyway"


@pytest.mark.parametrize(("release", "excused"), [("3.6.0", True), ("3.7.1", False), ("3.10.0", False)])
def test_only_the_compiler_that_leaves_a_fence_out_is_excused(
    release: str, excused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated, "version", lambda _name: release)

    assert (excuse(FaultKind.COPY_PROXY_FENCE) is not None) == excused
    assert all(excuse(kind) is None for kind in FaultKind if kind is not FaultKind.COPY_PROXY_FENCE)


def test_a_worker_tells_what_it_checks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"m": 1, "n": 16, "k": 128, "bits": 4, "rank": 5, "dtype": torch.float16, "seed": 0}
    monkeypatch.setattr("lords_bench.kernel_check.isolated.cases_of", lambda _kernel: (arguments,))

    code = main(["fake_quantize 0"], "sm_80")

    begun, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert code == 0
    assert begun == {"begin": "m1-n16-k128-b4-r5-float16"}
    assert (result["status"], result["reason"]) == ("ok", None)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown emulated device 'emulated-sm_75'"), emulated_target("emulated-sm_75"):
        pass
