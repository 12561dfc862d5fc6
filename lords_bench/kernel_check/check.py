"""One kernel on one case, held to `reference.error_bounds`, the bound of the tests.

Memory that a kernel allocates starts as NaN, so that an element nobody wrote shows, and every launch is repeated: the
two results must be equal bit for bit. The result and x must come back unharmed: x is compared with what went in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lords_bench.errors import LordsBenchError, kind_and_ends
from lords_bench.kernel_check.cases import SCALING, prepared_for
from lords_bench.kernel_check.training import TRAINING_CHECKS, outcome
from lords_bench.kernels.common.check_case import CheckCase
from lords_bench.kernels.common.entry import Kernel, Roundings
from lords_bench.kernels.common.prepared import DECODERS, TABLE_DECODERS, PreparedWeight
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise
from lords_bench.products.registry import KERNELS, named_kernel
from lords_bench.records.status import Status
from lords_bench.reference.error_bounds import Magnitudes, error_bound, in_units_of_bound
from lords_bench.reference.poison import nan_filled_allocations

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

# What is checked: the products of the registry, and the kernels of training.
CHECKED = (*KERNELS, *TRAINING_CHECKS)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """How one kernel did on one case.

    Attributes:
        worst: largest error in units of its bound, at most 1 if the status is ok; None if there was no result.
    """

    kernel: str
    case: str
    status: Status
    reason: str | None
    worst: float | None


def check_kernels(
    cases: Iterable[CheckCase],
    *,
    names: tuple[str, ...] = CHECKED,
    decoder: "Decoder | None" = None,
) -> tuple[CheckResult, ...]:
    """Check every kernel on every case; what a kernel does not support is a result with its reason.

    Args:
        cases: all of them for every kernel.
        names: of `CHECKED`.
        decoder: None is the fastest that fits; naming one lets kernels run on a CPU, which is the interpreter.
    """
    return tuple(check_named(name, case, decoder) for case in cases for name in names)


def check_named(name: str, case: CheckCase, decoder: "Decoder | None" = None) -> CheckResult:
    """One kernel of the registry or of training on one case; arguments as for `check_kernels`.

    Raises:
        UsageError: unknown name.
    """
    if name not in TRAINING_CHECKS:
        return check_case(named_kernel(name), case, decoder)
    training = TRAINING_CHECKS[name]

    def run() -> CheckResult:
        status, reason, worst = outcome(training.trial(case, decoder), repeatable=training.repeatable)
        return CheckResult(kernel=name, case=case.name, status=status, reason=reason, worst=worst)

    return _guarded(name, case, run)


def check_case(kernel: Kernel, case: CheckCase, decoder: "Decoder | None" = None) -> CheckResult:
    """Prepare the weight for the kernel and check it; whatever is raised is the outcome."""
    return _guarded(kernel.name, case, lambda: check(kernel, case, prepared_for(kernel, case, decoder)))


def _guarded(name: str, case: CheckCase, run: Callable[[], CheckResult]) -> CheckResult:
    try:
        return run()
    except LordsBenchError as error:
        return CheckResult(kernel=name, case=case.name, status=Status.INVALID, reason=str(error), worst=None)
    # Whatever a kernel raises is the outcome of its check, and the other kernels go on.
    except Exception as error:  # noqa: BLE001
        reason = kind_and_ends(error)
        return CheckResult(kernel=name, case=case.name, status=Status.LAUNCH_ERROR, reason=reason, worst=None)


def check(kernel: Kernel, case: CheckCase, weight: Any) -> CheckResult:
    """One kernel on one case, with the case's weight as the kernel takes it."""

    def result(status: Status, reason: str | None, worst: float | None = None) -> CheckResult:
        return CheckResult(kernel=kernel.name, case=case.name, status=status, reason=reason, worst=worst)

    support = kernel.supports(case.x_MK.shape[0], weight, case.x_MK.dtype)
    if not support.ok:
        return result(Status.UNSUPPORTED, support.reason)
    before = case.x_MK.clone()
    with nan_filled_allocations():
        y_MN = kernel.launch(case.x_MK, weight, case.bias_N, None)
        again_MN = kernel.launch(case.x_MK, weight, case.bias_N, None)
    expected_MN, bound_MN = expected_and_bound(kernel.name, case, weight)
    worst = float(in_units_of_bound(y_MN, expected_MN, bound_MN).max())
    if worst > 1:
        return result(Status.INCORRECT, f"error is {worst:.3g} times its bound", worst)
    if not torch.equal(y_MN, again_MN):
        return result(Status.INCORRECT, "a second launch gave other bits", worst)
    if not torch.equal(case.x_MK, before):
        return result(Status.INCORRECT, "the launch changed x", worst)
    return result(Status.OK, None, worst)


def expected_and_bound(
    kernel: str, case: CheckCase, weight: PreparedWeight | PreparedBlockwise
) -> tuple[Tensor, Tensor]:
    """y_MN in float64, and how far each element of the kernel's result may lie from it."""
    roundings = named_kernel(kernel).roundings
    if isinstance(weight, PreparedBlockwise):
        return _blockwise_bound(roundings, case, weight)
    return _lords_bound(roundings, case, weight)


def _lords_bound(roundings: Roundings, case: CheckCase, weight: PreparedWeight) -> tuple[Tensor, Tensor]:
    x_MK, b_NR, a_RK = case.x_MK.double(), case.b_NR.double(), case.a_RK.double()
    values_NK = case.values_NK
    expected_MN = x_MK @ (values_NK * (b_NR @ a_RK)).t() + case.bias_N.double()
    factors_NK = values_NK.abs() * (b_NR.abs() @ a_RK.abs())
    magnitudes = Magnitudes(
        terms=x_MK.abs() @ (values_NK * (b_NR @ a_RK)).abs().t() + case.bias_N.double().abs(),
        factors=x_MK.abs() @ factors_NK.t(),
        inputs=x_MK.abs().sum(1, keepdim=True).expand(-1, case.packed.shape[0]),
    )
    dtype, k, rank = case.x_MK.dtype, x_MK.shape[1], b_NR.shape[1]
    if roundings.fixed_point:
        magnitudes = replace(
            magnitudes,
            terms=magnitudes.factors + case.bias_N.double().abs(),
            fixed_point=_fixed_point_error(x_MK, b_NR, a_RK, values_NK),
        )
    bound = error_bound(
        expected_MN, magnitudes, steps=8 + k // 128 if roundings.fixed_point else k, rank=rank,
        roundings=roundings.count + (roundings.of_table and DECODERS[weight.decoder] in TABLE_DECODERS),
        compute=torch.float32 if roundings.fixed_point else dtype, result=dtype,
    )  # fmt: skip
    return expected_MN, bound


def _blockwise_bound(roundings: Roundings, case: CheckCase, weight: PreparedBlockwise) -> tuple[Tensor, Tensor]:
    assert case.scale_NG is not None
    k = case.codes_NK.shape[1]
    x_MK, values_NK = case.x_MK.double(), case.values_NK
    scale_NK = case.scale_NG.double().repeat_interleave(case.block, 1)[:, :k]
    zero_NK = torch.zeros_like(scale_NK)
    if case.zero_NG is not None:
        zero_NK = case.zero_NG.double().repeat_interleave(case.block, 1)[:, :k]
    bias_N = case.bias_N.double()
    expected_MN = x_MK @ ((values_NK - zero_NK) * scale_NK).t() + bias_N
    terms_MN = x_MK.abs() @ ((values_NK.abs() + zero_NK.abs()) * scale_NK.abs()).t() + bias_N.abs()
    inputs_MN = x_MK.abs().sum(1, keepdim=True).expand_as(terms_MN)
    if weight.adapter is not None:
        a_RK, b_NR = weight.adapter.a_RK.double(), weight.adapter.b_NR.double()
        expected_MN = expected_MN + SCALING * (x_MK @ a_RK.t()) @ b_NR.t()
        terms_MN = terms_MN + SCALING * (x_MK.abs() @ a_RK.abs().t()) @ b_NR.abs().t()
        inputs_MN = inputs_MN + b_NR.abs().sum(1)
    table = roundings.of_table and weight.operands.levels.decoder in TABLE_DECODERS
    zero = 0 if case.zero_NG is None else roundings.of_zero
    bound_MN = error_bound(
        expected_MN, Magnitudes(terms=terms_MN, factors=terms_MN, inputs=inputs_MN), steps=k, rank=1,
        roundings=roundings.count + table + zero, compute=case.x_MK.dtype, result=case.x_MK.dtype,
    )  # fmt: skip
    return expected_MN, bound_MN


def _fixed_point_error(x_MK: Tensor, b_NR: Tensor, a_RK: Tensor, values_NK: Tensor) -> Tensor:
    """Rounding P = A∘x to 16 bits per rank and K chunk: Σ_r |B| ½ step Σ_k |level|, chunks of at most 512 inputs."""
    error_MN = torch.zeros(x_MK.shape[0], b_NR.shape[0], dtype=torch.float64, device=x_MK.device)
    for first in range(0, x_MK.shape[1], 512):
        part = slice(first, first + 512)
        largest_MR = (x_MK[:, None, part] * a_RK[None, :, part]).abs().amax(-1)
        error_MN += (largest_MR / 32512 * 0.5001) @ b_NR.abs().t() * values_NK[:, part].abs().sum(1)
    return error_MN
