"""Gradients in float64, how far a right kernel may lie from them (`reference.error_bounds`), and the trials of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lords_bench.kernels.common.check_case import CheckCase, Trial
from lords_bench.kernels.common.entry import kernel_module
from lords_bench.kernels.common.gpu import gpu_of
from lords_bench.kernels.common.prepared import DECODERS, TABLE_DECODERS, PreparedWeight, operands_of, prepare
from lords_bench.reference.error_bounds import Magnitudes, error_bound, in_units_of_bound

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder
    from lords_bench.kernels.common.support import Support


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Expected:
    """A result in float64, and the largest error of each of its elements."""

    value: Tensor
    bound: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Factored:
    """levels[codes] and the factors of S, in float64."""

    values_NK: Tensor
    b_NR: Tensor
    a_RK: Tensor


def expected_input_gradient(dy_MN: Tensor, weight: Factored, *, table: bool) -> Expected:
    """The gradient dX = dY W, in the dtype of dY.

    Args:
        dy_MN: as the kernel takes it.
        weight: in float64.
        table: whether a decoder's table rounds the levels to the compute dtype, beside S and the product.
    """
    dy, values_NK = dy_MN.double(), weight.values_NK
    w_NK = values_NK * (weight.b_NR @ weight.a_RK)
    value = dy @ w_NK
    magnitudes = Magnitudes(
        terms=dy.abs() @ w_NK.abs(),
        factors=dy.abs() @ (values_NK.abs() * (weight.b_NR.abs() @ weight.a_RK.abs())),
        inputs=dy.abs().sum(1, keepdim=True).expand_as(value),
    )
    bound = error_bound(
        value, magnitudes, steps=dy.shape[1], rank=weight.b_NR.shape[1], roundings=3 if table else 2,
        compute=dy_MN.dtype, result=dy_MN.dtype,
    )  # fmt: skip
    return Expected(value=value, bound=bound)


def expected_factor_gradients(
    dy_MN: Tensor, x_MK: Tensor, weight: Factored, *, table: bool
) -> tuple[Expected, Expected]:
    """The gradients dA and dB in float32, of S's own rank; arguments as for `expected_input_gradient`.

    dS, A (or B) and, through a table, the levels are rounded to bfloat16, or not at all for float32 activations. It is
    dS as it is that is rounded, not its terms, whose sum over the tokens is float32.
    """
    dy, x, b_NR, a_RK = dy_MN.double(), x_MK.double(), weight.b_NR, weight.a_RK
    ds_NK = (dy.t() @ x) * weight.values_NK
    size_NK = (dy.abs().t() @ x.abs()) * weight.values_NK.abs()
    found = []
    for value, terms, factors in (
        (b_NR.t() @ ds_NK, b_NR.abs().t() @ ds_NK.abs(), b_NR.abs().t() @ size_NK),
        (ds_NK @ a_RK.t(), ds_NK.abs() @ a_RK.abs().t(), size_NK @ a_RK.abs().t()),
    ):
        bound = error_bound(
            value,
            Magnitudes(terms=terms, factors=factors, inputs=torch.zeros_like(terms)),
            steps=sum(ds_NK.shape),
            rank=x_MK.shape[0],
            roundings=3 if table else 2,
            compute=torch.float32 if x_MK.dtype == torch.float32 else torch.bfloat16,
            result=torch.float32,
        )
        found.append(Expected(value=value, bound=bound))
    return found[0], found[1]


def factor_gradients(case: CheckCase, decoder: "Decoder | None", *, atomic: bool) -> Trial:
    """Of the padded factors, by the rule's configuration; sums by atomics or in a fixed order."""
    weight, dy_MN = prepare(case, case.x_MK.dtype, decoder=decoder), case.output_gradient()
    kernel = kernel_module("peft_backward.launch")
    config = replace(kernel.factor_gradients_default(bits=case.bits, gpu=gpu_of(dy_MN.device)), atomic=atomic)
    rank = case.b_NR.shape[1]

    def launch() -> tuple[Tensor, ...]:
        found = kernel.factor_gradients(dy_MN, case.x_MK, operands_of(weight), config=config)
        return found.da_RK[:rank], found.db_NR[:, :rank]

    def errors(found: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        da, db = expected_factor_gradients(dy_MN, case.x_MK, _factored(case), table=_has_table(weight))
        return {"dA": _error(found[0], da), "dB": _error(found[1], db)}

    return Trial(inputs=(case.x_MK, dy_MN), launch=launch, errors=errors)


def input_gradient(
    case: CheckCase,
    decoder: "Decoder | None",
    gradient: Callable[[Tensor, PreparedWeight], Tensor],
    supports: "Callable[[PreparedWeight, torch.dtype], Support] | None" = None,
) -> Trial:
    """By one of the ways to compute it: (dY_MN, weight) to dX_MK, which may refuse a dtype."""
    weight, dy_MN = prepare(case, case.x_MK.dtype, decoder=decoder), case.output_gradient()
    support = None if supports is None else supports(weight, dy_MN.dtype)

    def errors(found: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        return {"dX": _error(found[0], expected_input_gradient(dy_MN, _factored(case), table=_has_table(weight)))}

    refusal = None if support is None or support.ok else support.reason
    return Trial(inputs=(dy_MN,), launch=lambda: (gradient(dy_MN, weight),), errors=errors, refusal=refusal)


def _error(found: Tensor, expected: Expected) -> Tensor:
    return in_units_of_bound(found, expected.value, expected.bound)


def _factored(case: CheckCase) -> Factored:
    return Factored(values_NK=case.values_NK, b_NR=case.b_NR.double(), a_RK=case.a_RK.double())


def _has_table(weight: PreparedWeight) -> bool:
    return DECODERS[weight.decoder] in TABLE_DECODERS
