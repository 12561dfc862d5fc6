"""The kernels of training, which are no products and so not in the registry: gradients and fake quantization.

Each is checked in the way of `check.check`: outputs that start as NaN, a second launch with equal bits (but for sums
by atomics), inputs that come back unchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lords_bench.kernel_check.bounds import (
    Expected,
    Factored,
    expected_factor_gradients,
    expected_input_gradient,
    fake_quantize_errors,
)
from lords_bench.kernel_check.cases import CheckCase
from lords_bench.kernel_registry import input_gradient, lords_operands
from lords_bench.kernel_registry.kernel import kernel_module
from lords_bench.prepared import DECODERS, PreparedWeight, prepare
from lords_bench.records.status import Status
from lords_bench.reference.error_bounds import in_units_of_bound
from lords_bench.reference.poison import nan_filled_allocations

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trial:
    """One kernel on one case.

    Attributes:
        inputs: what a launch must leave as it is.
        launch: to the results.
        errors: results to errors in units of their bounds, by what they are errors of.
    """

    inputs: tuple[Tensor, ...]
    launch: Callable[[], tuple[Tensor, ...]]
    errors: Callable[[tuple[Tensor, ...]], Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCheck:
    """How a kernel of training is tried.

    Attributes:
        trial: a case and a decoder (None: the fastest that fits) to the trial.
        shapes: places in `cases.SHAPES` that it is tried on; its three meet all ranks with all widths and dtypes.
        repeatable: whether a second launch must give the same bits.
    """

    trial: "Callable[[CheckCase, Decoder | None], Trial]"
    shapes: tuple[int, ...]
    repeatable: bool = True


# One token, ragged tiles, many tokens. No more: in float32 these kernels take the compiler up to ten times as long.
_TOKENS = (1, 5, 6)
# Fake quantization has no tokens: three sizes of W.
_WEIGHTS = (0, 1, 2)


def _factor_gradients(case: CheckCase, decoder: "Decoder | None", *, atomic: bool) -> Trial:
    weight, dy_MN = prepare(case, case.x_MK.dtype, decoder=decoder), _output_gradient(case)
    kernel, gpu = kernel_module("peft_backward.launch"), kernel_module("common.gpu").gpu_of(dy_MN.device)
    config = replace(kernel.factor_gradients_default(bits=case.bits, gpu=gpu), atomic=atomic)
    rank = case.b_NR.shape[1]

    def launch() -> tuple[Tensor, ...]:
        found = kernel.factor_gradients(dy_MN, case.x_MK, lords_operands(weight), config=config)
        return found.da_RK[:rank], found.db_NR[:, :rank]

    def errors(found: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        da, db = expected_factor_gradients(dy_MN, case.x_MK, _factored(case), table=_has_table(weight))
        return {"dA": _error(found[0], da), "dB": _error(found[1], db)}

    return Trial(inputs=(case.x_MK, dy_MN), launch=launch, errors=errors)


def _input_gradient(case: CheckCase, decoder: "Decoder | None", *, dense: bool) -> Trial:
    """By the kernel, or as the operators do it: a dense product with the dequantized weight."""
    weight, dy_MN = prepare(case, case.x_MK.dtype, decoder=decoder), _output_gradient(case)

    def launch() -> tuple[Tensor, ...]:
        if dense:
            return (input_gradient(dy_MN, weight),)
        return (kernel_module("peft_backward.launch").input_gradient(dy_MN, lords_operands(weight)),)

    def errors(found: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        return {"dX": _error(found[0], expected_input_gradient(dy_MN, _factored(case), table=_has_table(weight)))}

    return Trial(inputs=(dy_MN,), launch=launch, errors=errors)


def _fake_quantize(case: CheckCase, _decoder: "Decoder | None") -> Trial:
    """W around the case's own weight, so that all levels and both ends occur; in the dtype of x."""
    own_NK = _factored(case).values_NK * (case.b_NR.double() @ case.a_RK.double())
    noise_NK = torch.randn(own_NK.shape, generator=torch.Generator().manual_seed(2)).to(own_NK)
    weight_NK = (own_NK * (1 + 0.3 * noise_NK)).to(case.x_MK.dtype)

    def launch() -> tuple[Tensor, ...]:
        found = kernel_module("fake_quantize.launch").launch(weight_NK, case.b_NR, case.a_RK, case.levels_L)
        return found.weight_NK, found.codes_NK, found.inside_NK

    def errors(found: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        fake_NK, codes_NK, inside_NK = found
        return fake_quantize_errors(weight_NK, fake_NK, codes_NK, inside_NK, case.levels_L, case.b_NR, case.a_RK)

    return Trial(inputs=(weight_NK, case.b_NR, case.a_RK), launch=launch, errors=errors)


TRAINING_CHECKS: Mapping[str, TrainingCheck] = MappingProxyType(
    {
        "factor_gradients": TrainingCheck(
            trial=lambda case, decoder: _factor_gradients(case, decoder, atomic=False), shapes=_TOKENS
        ),
        "factor_gradients_atomic": TrainingCheck(
            trial=lambda case, decoder: _factor_gradients(case, decoder, atomic=True), shapes=_TOKENS, repeatable=False
        ),
        "input_gradient": TrainingCheck(
            trial=lambda case, decoder: _input_gradient(case, decoder, dense=False), shapes=_TOKENS
        ),
        "input_gradient_dense": TrainingCheck(
            trial=lambda case, decoder: _input_gradient(case, decoder, dense=True), shapes=_TOKENS
        ),
        "fake_quantize": TrainingCheck(trial=_fake_quantize, shapes=_WEIGHTS),
    }
)


def outcome(trial: Trial, *, repeatable: bool) -> tuple[Status, str | None, float | None]:
    """Launch twice and judge: status, why it is not ok, and the largest error in units of its bound."""
    before = [tensor.clone() for tensor in trial.inputs]
    with nan_filled_allocations():
        found = trial.launch()
        again = trial.launch()
    if not all(map(torch.equal, trial.inputs, before)):
        return Status.INCORRECT, "the launch changed an input", None
    shares = {name: _largest(share) for name, share in trial.errors(found).items()}
    worst = max(shares.values())
    if worst > 1:
        name = max(shares, key=lambda name: shares[name])
        return Status.INCORRECT, f"error of the {name} is {worst:.3g} times its bound", worst
    if repeatable and not all(map(torch.equal, found, again)):
        return Status.INCORRECT, "a second launch gave other bits", worst
    if not repeatable and max(_largest(share) for share in trial.errors(again).values()) > 1:
        return Status.INCORRECT, "a second launch is outside the bound", worst
    return Status.OK, None, worst


def _largest(share: Tensor) -> float:
    return float(share.nan_to_num(nan=torch.inf).max())


def _error(found: Tensor, expected: Expected) -> Tensor:
    return in_units_of_bound(found, expected.value, expected.bound)


def _output_gradient(case: CheckCase) -> Tensor:
    m, n = case.x_MK.shape[0], case.codes_NK.shape[0]
    return torch.randn(m, n, generator=torch.Generator().manual_seed(1)).to(case.x_MK)


def _factored(case: CheckCase) -> Factored:
    values_NK = case.levels_L.double()[case.codes_NK.long()]
    return Factored(values_NK=values_NK, b_NR=case.b_NR.double(), a_RK=case.a_RK.double())


def _has_table(weight: PreparedWeight) -> bool:
    return DECODERS[weight.decoder] in ("table", "table16")
