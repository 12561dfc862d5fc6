"""Fake quantization as a PyTorch operator, so that autograd, `torch.compile` and activation checkpointing see one node.

    lords_bench::fake_quantize            Ŵ and one byte per weight; differentiable in the weight and its grid
    lords_bench::fake_quantize_gradient   the surrogate's gradients, dS one panel at a time

The arithmetic is `reference.qat`; on a GPU the forward of low-rank scales is one pass of the Triton kernel over W, with
the same rule: q = W · (1/S) in float32, the code is the number of midpoints strictly below q, so that a tie goes to the
lower level, and W lies inside where lowest ≤ q ≤ highest, both ends included. S is summed and rounded in another order,
so where q is within float32 rounding of a midpoint or an end, either answer is right
(`reference.error_bounds.nearest_level_bound`). The backward reads the codes and the mask of the forward.

What is kept for the backward: that byte per weight, and references to the weight and
the grid, which are parameters anyway.
"""

from typing import Any

import torch
from torch import Tensor

from lords_bench.products.registry import fake_quantized as fake_quantized_by_kernel
from lords_bench.reference.qat import Gradient, Grid, fake_quantize, fake_quantize_gradient

_LIBRARY = torch.library.Library("lords_bench", "FRAGMENT")
_GRID = "Tensor first, Tensor? a, Tensor levels, Tensor? zero, ScalarType? scale_dtype"
_LIBRARY.define(f"fake_quantize(Tensor weight, {_GRID}, bool lsq) -> (Tensor, Tensor)")
_LIBRARY.define(
    f"fake_quantize_gradient(Tensor grad, Tensor weight, Tensor flagged, {_GRID}, bool lsq, bool learn_levels) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_FAKE_QUANTIZE = torch.ops.lords_bench.fake_quantize.default
_GRADIENT = torch.ops.lords_bench.fake_quantize_gradient.default
# Position of the levels among the arguments of `fake_quantize`.
_LEVELS = 3

_MOST_LEVELS = 16
_KERNEL_DTYPES = (torch.float16, torch.bfloat16, torch.float32)

_Grid = tuple[Tensor, Tensor | None, Tensor, Tensor | None, torch.dtype | None]


def fake_quantized(weight_NK: Tensor, grid: Grid, gradient: Gradient = "lsq") -> Tensor:
    """Ŵ_NK = S · q(W/S) in the dtype of the weight; differentiable in the weight, scales, levels and zero points."""
    fake_NK: Tensor = _FAKE_QUANTIZE(
        weight_NK, grid.first, grid.a_RK, grid.levels_L, grid.zero_NG, grid.scale_dtype, gradient == "lsq"
    )[0]
    return fake_NK


def _grid(first: Tensor, a: Tensor | None, levels: Tensor, zero: Tensor | None, dtype: torch.dtype | None) -> Grid:
    return Grid(first=first, a_RK=a, levels_L=levels, zero_NG=zero, scale_dtype=dtype)


def _forward(weight: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    *grid, _lsq = arguments
    with torch.autocast(weight.device.type, enabled=False):
        if weight.is_cuda and kernel_takes(weight, _grid(*grid)):
            return fake_quantize_by_kernel(weight, _grid(*grid))
        return fake_quantize(weight, _grid(*grid))


def kernel_takes(weight_NK: Tensor, grid: Grid) -> bool:
    """Whether the Triton kernel computes this: low-rank scales, 2 to 16 levels, no float64, rows of W contiguous."""
    return (
        grid.a_RK is not None
        and grid.zero_NG is None
        and 2 <= grid.levels_L.numel() <= _MOST_LEVELS
        and all(tensor.dtype in _KERNEL_DTYPES for tensor in (weight_NK, grid.first, grid.a_RK))
        and (weight_NK.shape[1] == 1 or weight_NK.stride(1) == 1)
    )


@torch.no_grad()
def fake_quantize_by_kernel(weight_NK: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """What `reference.qat.fake_quantize` gives, by the Triton kernel."""
    assert grid.a_RK is not None
    storage = grid.scale_dtype or torch.float32
    return fake_quantized_by_kernel(weight_NK, grid.first.to(storage), grid.a_RK.to(storage), grid.levels_L)


def _forward_fake(weight: Tensor, *_arguments: Any) -> tuple[Tensor, Tensor]:
    return weight.new_empty(weight.shape), weight.new_empty(weight.shape, dtype=torch.uint8)


def _gradient(grad: Tensor, weight: Tensor, flagged: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *grid, lsq, learn_levels = arguments
    with torch.autocast(weight.device.type, enabled=False):
        found = fake_quantize_gradient(
            grad, weight, flagged, _grid(*grid), "lsq" if lsq else "constant-codes", learn_levels=learn_levels
        )
    first, a, levels, zero, _ = grid
    return (
        found.weight_NK.to(weight.dtype) if lsq else grad.new_empty(0),  # constant codes pass the gradient on
        found.first.to(first.dtype),
        _like(found.a_RK, a, grad),
        _like(found.levels_L, levels, grad),
        _like(found.zero_NG, zero, grad),
    )


def _gradient_fake(grad: Tensor, weight: Tensor, _flagged: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    first, a, levels, zero, _, lsq, learn_levels = arguments
    return (
        weight.new_empty(weight.shape) if lsq else grad.new_empty(0),
        first.new_empty(first.shape),
        grad.new_empty(0) if a is None else a.new_empty(a.shape),
        levels.new_empty(levels.shape) if learn_levels else grad.new_empty(0),
        grad.new_empty(0) if zero is None else zero.new_empty(zero.shape),
    )


def _like(gradient: Tensor | None, tensor: Tensor | None, other: Tensor) -> Tensor:
    """The gradient in the dtype of its tensor; an operator has no None among its results."""
    return other.new_empty(0) if gradient is None or tensor is None else gradient.to(tensor.dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    weight, first, a, levels, zero, scale_dtype, lsq = inputs
    ctx.save_for_backward(weight, output[1], first, a, levels, zero)
    ctx.options = (scale_dtype, lsq)


def _backward(ctx: Any, grad: Tensor, _grad_flagged: Tensor | None) -> tuple[Tensor | None, ...]:
    weight, flagged, *grid = ctx.saved_tensors
    scale_dtype, lsq = ctx.options
    needed = ctx.needs_input_grad
    weight_grad, *rest = _GRADIENT(grad, weight, flagged, *grid, scale_dtype, lsq, needed[_LEVELS])
    grads = (weight_grad if lsq else grad, *rest)
    kept = (value if need else None for value, need in zip(grads, needed, strict=False))
    return (*kept, None, None)


for _name, _implementation, _fake in (
    ("fake_quantize", _forward, _forward_fake),
    ("fake_quantize_gradient", _gradient, _gradient_fake),
):
    for _key in ("CPU", "CUDA"):
        _LIBRARY.impl(_name, _implementation, _key)
    torch.library.register_fake(f"lords_bench::{_name}", _fake, lib=_LIBRARY)
torch.library.register_autograd("lords_bench::fake_quantize", _backward, setup_context=_setup_context, lib=_LIBRARY)
