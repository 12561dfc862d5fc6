"""Fake quantization: the forward Ŵ = S · q(W/S) of training with quantized weights, and its surrogate gradients.

Rounding has derivative zero almost everywhere, so the gradient is that of a surrogate that equals Ŵ at the present
point (straight-through estimator, Bengio et al., arXiv 1308.3432). Two surrogates, v = the level of W/S:

    lsq              inside the range of the levels  Ŵ = S · (W/S + c), c = v - W/S held constant:
                                                     dŴ/dW = 1, dŴ/dS = v - W/S
                     outside                         Ŵ = S · v, v an end level: dŴ/dW = 0, dŴ/dS = v
                     Learned step size quantization (Esser et al., arXiv 1902.08153, eq. 3 and 5), with a level in
                     place of an integer and a scale field in place of a step.
    constant-codes   Ŵ = W + (S - S₀) · v - (W₀ - Ŵ₀), codes held constant: dŴ/dW = 1 everywhere, dŴ/dS = v

A weight outside the range gets no gradient under lsq: it can only come back by its scale growing, which dŴ/dS = ±1
asks for where the loss does. At a learned level v, dŴ/dv = S under both. An affine grid is v = code - zero; the zero
point is rounded in the forward and by the same surrogate dŴ/dzero = 0 inside and -S outside (lsq), -S everywhere
(constant-codes).

S = B @ A or block scales. Factors and scales are rounded to their storage dtype in the forward, straight through in the
gradient, so that a model in training computes with the very weights it would export. Everything goes panel by panel;
besides Ŵ only one byte per weight is kept for the backward: the code, and bit 7 where W/S lies inside.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lords_bench.reference.codebooks import assign_nearest
from lords_bench.reference.panels import compute_dtype, row_panels

Gradient = Literal["lsq", "constant-codes"]

INSIDE = 128
CODE_MASK = INSIDE - 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Grid:
    """What weights are rounded to: a scale field and levels, as they are trained.

    Attributes:
        first: B_NR, or block scales N×(K/block).
        a_RK: A of a low-rank field; None for block scales.
        levels_L: sorted levels; for an affine grid the integers 0 … L-1.
        zero_NG: trained zero points of an affine grid, not yet rounded; None for other grids.
        scale_dtype: storage dtype that `first` and `a_RK` are rounded to; None rounds nothing.
    """

    first: Tensor
    a_RK: Tensor | None
    levels_L: Tensor
    zero_NG: Tensor | None = None
    scale_dtype: torch.dtype | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GridGradient:
    """Gradients of a `Grid`'s tensors, in the compute dtype; None where there is no such tensor."""

    weight_NK: Tensor
    first: Tensor
    a_RK: Tensor | None
    levels_L: Tensor | None
    zero_NG: Tensor | None


@torch.no_grad()
def fake_quantize(weight_NK: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Ŵ in the dtype of the weight, and per weight its code with bit 7 set where W/S lies inside the levels' range.

    Codes are those of `assign_nearest`; the arithmetic is float32, float64 for a float64 weight.
    """
    dtype = compute_dtype(weight_NK.dtype)
    view = _Panels(grid, weight_NK.shape[1], dtype)
    fake_NK = torch.empty_like(weight_NK, memory_format=torch.contiguous_format)
    flagged_NK = torch.empty(weight_NK.shape, dtype=torch.uint8, device=weight_NK.device)
    for panel in row_panels(*_shape(weight_NK), weight_NK.device):
        scale_PK = view.scale(panel)
        weight_PK = weight_NK[panel].to(dtype)
        if grid.zero_NG is None:
            codes_PK = assign_nearest(weight_PK, scale_PK, view.levels_L)
        else:
            position_PK = (weight_PK / _guarded(scale_PK)).round_() + view.zero(panel)
            codes_PK = position_PK.clamp_(0, len(view.levels_L) - 1).to(torch.uint8)
        value_PK = view.value(panel, codes_PK)
        quotient_PK = weight_PK / _guarded(scale_PK)
        low, high = view.ends(panel)
        inside_PK = (quotient_PK >= low) & (quotient_PK <= high)
        flagged_NK[panel] = codes_PK | inside_PK.to(torch.uint8).mul_(INSIDE)
        fake_NK[panel] = value_PK.mul_(scale_PK)
    return fake_NK, flagged_NK


@torch.no_grad()
def fake_quantize_gradient(
    grad_NK: Tensor, weight_NK: Tensor, flagged_NK: Tensor, grid: Grid, gradient: Gradient, *, learn_levels: bool
) -> GridGradient:
    """Gradients of a loss with dL/dŴ = `grad_NK`; formulas in the module's docstring.

    dS exists one panel at a time: dB = dS Aᵀ and dA = Bᵀ dS, or its sum over every block.
    """
    dtype = compute_dtype(weight_NK.dtype)
    view = _Panels(grid, weight_NK.shape[1], dtype)
    lsq = gradient == "lsq"
    weight_grad_NK = torch.empty(weight_NK.shape, dtype=dtype, device=weight_NK.device) if lsq else grad_NK.to(dtype)
    sums = _Sums(view, weight_NK, learn_levels=learn_levels)
    for panel in row_panels(*_shape(weight_NK), weight_NK.device):
        scale_PK, grad_PK = view.scale(panel), grad_NK[panel].to(dtype)
        flagged_PK = flagged_NK[panel]
        codes_PK = flagged_PK.bitwise_and(CODE_MASK)
        slope_PK = view.value(panel, codes_PK)
        outside_PK = torch.ones_like(slope_PK)
        if lsq:
            inside_PK = (flagged_PK >= INSIDE).to(dtype)
            slope_PK.addcdiv_(weight_NK[panel].to(dtype) * inside_PK, _guarded(scale_PK), value=-1.0)
            torch.mul(grad_PK, inside_PK, out=weight_grad_NK[panel])
            outside_PK -= inside_PK
        sums.add(panel, grad_PK, slope_PK, scale_PK, codes_PK, outside_PK)
    return GridGradient(
        weight_NK=weight_grad_NK, first=sums.first, a_RK=sums.a_RK, levels_L=sums.levels_L, zero_NG=sums.zero_NG
    )


class _Panels:
    """Scales and values of a grid, rows at a time, in one dtype."""

    def __init__(self, grid: Grid, k: int, dtype: torch.dtype) -> None:
        self.first = _stored(grid.first, grid.scale_dtype, dtype)
        self.a_RK = None if grid.a_RK is None else _stored(grid.a_RK, grid.scale_dtype, dtype)
        self.levels_L = grid.levels_L.to(dtype)
        self._ends = (float(self.levels_L[0]), float(self.levels_L[-1]))
        top = len(self.levels_L) - 1
        self.zero_NG = None if grid.zero_NG is None else grid.zero_NG.to(dtype).round().clamp_(0, top)
        self.block = 1 if grid.a_RK is not None else k // grid.first.shape[1]

    def scale(self, panel: slice) -> Tensor:
        """S of these rows."""
        if self.a_RK is not None:
            return self.first[panel] @ self.a_RK
        return self.first[panel].repeat_interleave(self.block, dim=1)

    def zero(self, panel: slice) -> Tensor:
        """Rounded zero point of every weight of these rows."""
        assert self.zero_NG is not None
        return self.zero_NG[panel].repeat_interleave(self.block, dim=1)

    def value(self, panel: slice, codes_PK: Tensor) -> Tensor:
        """The level of every code, a fresh tensor; of an affine grid, code - zero."""
        if self.zero_NG is not None:
            return codes_PK.to(self.levels_L.dtype).sub_(self.zero(panel))
        return self.levels_L.index_select(0, codes_PK.flatten().int()).view(codes_PK.shape)

    def ends(self, panel: slice) -> tuple[Tensor | float, Tensor | float]:
        """Lowest and highest value that a weight of these rows can take, in units of S."""
        if self.zero_NG is None:
            return self._ends
        zero_PK = self.zero(panel)
        return -zero_PK, len(self.levels_L) - 1 - zero_PK


class _Sums:
    """Gradients of the small tensors, summed panel by panel."""

    def __init__(self, view: _Panels, weight_NK: Tensor, *, learn_levels: bool) -> None:
        self._view = view
        self.first = torch.zeros_like(view.first)
        self.a_RK = None if view.a_RK is None else torch.zeros_like(view.a_RK)
        self.levels_L = torch.zeros_like(view.levels_L) if learn_levels else None
        self.zero_NG = None if view.zero_NG is None else torch.zeros_like(view.zero_NG)
        self._blocks = weight_NK.shape[1] // view.block

    def add(
        self, panel: slice, grad_PK: Tensor, slope_PK: Tensor, scale_PK: Tensor, codes_PK: Tensor, outside_PK: Tensor
    ) -> None:
        """Adds the rows of a panel; `slope` is dŴ/dS, `outside` is 1 where a zero point moves Ŵ."""
        view = self._view
        ds_PK = slope_PK.mul_(grad_PK)
        if self.a_RK is not None and view.a_RK is not None:
            torch.mm(ds_PK, view.a_RK.t(), out=self.first[panel])
            self.a_RK.addmm_(view.first[panel].t(), ds_PK)
        else:
            self.first[panel] = self._per_block(ds_PK)
        if self.zero_NG is not None:
            self.zero_NG[panel] = -self._per_block(outside_PK.mul_(grad_PK).mul_(scale_PK))
        if self.levels_L is not None:
            pull_PK = scale_PK.mul_(grad_PK)
            for code in range(len(self.levels_L)):
                self.levels_L[code] += pull_PK[codes_PK == code].sum()

    def _per_block(self, values_PK: Tensor) -> Tensor:
        return values_PK.view(values_PK.shape[0], self._blocks, -1).sum(dim=2)


def _stored(tensor: Tensor, storage: torch.dtype | None, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if storage is None else tensor.to(storage).to(dtype)


def _guarded(scale_PK: Tensor) -> Tensor:
    """S with |S| at least the smallest normal number, sign kept: what `assign_nearest` divides by."""
    return scale_PK.abs().clamp_min_(torch.finfo(scale_PK.dtype).tiny).copysign_(scale_PK)


def _shape(matrix_NK: Tensor) -> tuple[int, int]:
    n, k = matrix_NK.shape
    return n, k
