"""LoRDS products as PyTorch operators: y_MN = x_MK @ W_NKᵀ + bias with W = levels[codes] · (B @ A), kept packed.

    lords_bench::matmul                the product; differentiable in x, B, A and bias
    lords_bench::matmul_grad_input     dx = dy @ W
    lords_bench::matmul_grad_factors   dB = dS @ Aᵀ, dA = Bᵀ @ dS with dS = (dyᵀ x) · levels[codes]

They have fake and autograd registrations, so that `torch.compile(fullgraph=True)` and CUDA graphs work. On CPU tensors
the reference arithmetic runs (`reference.products`: W in float32, float64 for a float64 x). On a GPU one table
look-up picks the kernel (`route.py`). Levels get no gradient: wherever this operator is used, codes are frozen.

Passing a dozen arguments through PyTorch's dispatcher costs more than the rest of a call together, so an eager call
goes to the kernel directly, through a small autograd function where it needs a gradient (docs/decisions/0007); compiled
graphs, tensor subclasses, function transforms and dispatch modes see the operator. Importing this module makes
`LordsWeight.matmul` use it (`reference.engine`).
"""

from collections.abc import MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lords_bench.errors import UsageError
from lords_bench.kernels.common.prepared import REFERENCE, PreparedWeight, StoredLords, prepare
from lords_bench.products.registry import factor_gradients, input_gradient
from lords_bench.products.route import launcher
from lords_bench.reference import engine
from lords_bench.reference.panels import compute_dtype
from lords_bench.reference.weights import LordsWeight

_LIBRARY = torch.library.Library("lords_bench", "DEF")
_LIBRARY.define(
    "matmul(Tensor x, Tensor packed, Tensor b, Tensor a, Tensor levels, Tensor? words, Tensor? grid_bytes, "
    "Tensor? a_columns, Tensor? counters, Tensor? bias, int bits, int decoder, float unit) -> Tensor"
)
_LIBRARY.define(
    "matmul_grad_input(Tensor dy, Tensor packed, Tensor b, Tensor a, Tensor levels, Tensor? words, int bits, "
    "int decoder, float unit) -> Tensor"
)
_LIBRARY.define(
    "matmul_grad_factors(Tensor dy, Tensor x, Tensor packed, Tensor b, Tensor a, Tensor levels, Tensor? words, "
    "int bits, int decoder, float unit) -> (Tensor, Tensor)"
)
_MATMUL = torch.ops.lords_bench.matmul.default
_GRAD_INPUT = torch.ops.lords_bench.matmul_grad_input.default
_GRAD_FACTORS = torch.ops.lords_bench.matmul_grad_factors.default
# Positions of the differentiable arguments of `matmul`.
_X, _B, _A, _BIAS = 0, 2, 3, 9


def lords_matmul(x: Tensor, weight: StoredLords | LordsWeight | PreparedWeight, bias_N: Tensor | None = None) -> Tensor:
    """Y = x @ Wᵀ + bias for a LoRDS weight, without making W.

    Args:
        x: (…, K), any leading shape and strides, also empty; float16, bfloat16 or float32, or float64 (no kernels).
        weight: N×K. A `LordsWeight` is prepared once per dtype and the result kept as long as the weight. Under
            `torch.compile` and in a CUDA graph give a prepared one (`prepare(weight, x.dtype)`); any other stored
            weight is prepared in every call.
        bias_N: (N,), any float dtype.

    Returns:
        (…, N) in the dtype of x.

    Raises:
        UsageError: x, weight and bias that do not fit together, or a GPU without kernels; one line with the remedy.
    """
    if not isinstance(weight, PreparedWeight):
        weight = prepared_form(weight, x.dtype) if isinstance(weight, LordsWeight) else prepare(weight, x.dtype)
    shape, dtype = x.shape, weight.dtype
    if (
        not shape
        or shape[-1] != weight.k
        or x.device != weight.device
        or (x.dtype != dtype if dtype else not x.dtype.is_floating_point)
    ):
        _refuse(x, weight)
    if bias_N is not None and (bias_N.shape != (weight.n,) or bias_N.device != weight.device):
        raise UsageError(
            f"bias {tuple(bias_N.shape)} on {bias_N.device} does not fit N = {weight.n} on {weight.device}"
        )
    if _is_plain_call(x):
        if _needs_gradient(x, weight, bias_N):
            eager: Tensor = _EagerProduct.apply(x, weight.b_NR, weight.a_RK, bias_N, weight)  # type: ignore[no-untyped-call]
            return eager
        if len(shape) == 2 and shape[0]:
            return launcher(shape[0], weight)(x, weight, bias_N)
        return _product(x, weight, bias_N)
    y: Tensor = _MATMUL(*operator_arguments(x, weight, bias_N))
    return y


def operator_arguments(x: Tensor, weight: PreparedWeight, bias_N: Tensor | None) -> tuple[Any, ...]:
    """A product as the arguments of `torch.ops.lords_bench.matmul`."""
    return (
        x, weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, weight.words, weight.grid_bytes, weight.a_columns,
        weight.counters, bias_N, weight.bits, weight.decoder, weight.unit,
    )  # fmt: skip


def prepared_form(weight: LordsWeight, dtype: torch.dtype) -> PreparedWeight:
    """`weight` prepared for activations of `dtype`: made at the first call, kept as long as the weight lives.

    Made again when B, A or the codes were changed in place; `LordsWeight.to()` gives another weight, with a form of its
    own. Factors that are trained stay differentiable: of such a weight only the codes' form is kept.

    Raises:
        UsageError: tensors that do not fit together.
    """
    stamps = tuple(_version(tensor) for tensor in (weight.packed, weight.b_NR, weight.a_RK, weight.levels_L))
    forms = _forms.setdefault(weight, {})
    stamp, form = forms.get(dtype, (None, None))
    trained = torch.is_grad_enabled() and (weight.b_NR.requires_grad or weight.a_RK.requires_grad)
    if form is None or stamp != stamps:
        form = prepare(_Detached(weight), dtype)
        forms[dtype] = stamps, form
    return form.with_factors(weight.b_NR, weight.a_RK) if trained else form


class _Detached:
    """A `LordsWeight` with the fields that `prepare` reads, its factors without gradients."""

    def __init__(self, weight: LordsWeight) -> None:
        self.packed, self.bits = weight.packed, weight.spec.bits_per_code
        self.b_NR, self.a_RK = weight.b_NR.detach(), weight.a_RK.detach()
        self.levels_L = weight.levels()


_forms: MutableMapping[LordsWeight, dict[torch.dtype, tuple[tuple[int, ...], PreparedWeight]]] = WeakKeyDictionary()


def _version(tensor: Tensor | None) -> int:
    """Grows with every change in place; tensors made in inference mode do not count, and are taken as constant."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version  # noqa: SLF001  (no public name)


def _is_plain_call(x: Tensor) -> bool:
    """Whether nobody but the kernel and autograd has to see the call: no tracing, subclass, transform or mode."""
    return not (
        torch.compiler.is_compiling()
        or type(x) is not Tensor
        # PyTorch's own fast paths ask these two.
        or torch._C._len_torch_dispatch_stack()  # noqa: SLF001
        or torch._C._are_functorch_transforms_active()  # noqa: SLF001
    )


def _needs_gradient(x: Tensor, weight: PreparedWeight, bias_N: Tensor | None) -> bool:
    return torch.is_grad_enabled() and (
        x.requires_grad
        or weight.b_NR.requires_grad
        or weight.a_RK.requires_grad
        or (bias_N is not None and bias_N.requires_grad)
    )


def _refuse(x: Tensor, weight: PreparedWeight) -> None:
    """Say which of the conditions of `lords_matmul` does not hold."""
    if not x.dtype.is_floating_point:
        raise UsageError(f"x is {x.dtype}; a LoRDS product takes float16, bfloat16 or float32: convert it with x.to()")
    if x.dim() == 0 or x.shape[-1] != weight.k:
        columns = x.shape[-1] if x.dim() else "no"
        raise UsageError(f"x has {columns} columns (shape {tuple(x.shape)}), the weight has K = {weight.k}")
    if x.device != weight.device:
        raise UsageError(f"x is on {x.device}, the weight on {weight.device}; move one of them with .to()")
    raise UsageError(f"x is {x.dtype}, the weight is prepared for {weight.dtype}; prepare it again or convert x")


def _product(x: Tensor, weight: PreparedWeight, bias_N: Tensor | None) -> Tensor:
    """The product for any leading shape, outside autograd."""
    shape = (*x.shape[:-1], weight.n)
    x_MK = x.reshape(-1, weight.k)
    m = x_MK.shape[0]
    if m == 0 or weight.n == 0:
        return x.new_empty(shape)
    return launcher(m, weight)(x_MK, weight, bias_N).view(shape)


def _matmul(  # noqa: PLR0913, PLR0917  (operators take tensors and numbers, no objects)
    x: Tensor, packed: Tensor, b: Tensor, a: Tensor, levels: Tensor, words: Tensor | None, grid_bytes: Tensor | None,
    a_columns: Tensor | None, counters: Tensor | None, bias: Tensor | None, bits: int, decoder: int, unit: float,
) -> Tensor:  # fmt: skip
    weight = PreparedWeight(
        packed=packed, b_NR=b, a_RK=a, levels_L=levels, words=words, grid_bytes=grid_bytes, a_columns=a_columns,
        counters=counters, bits=bits, decoder=decoder, unit=unit, dtype=None if decoder == REFERENCE else x.dtype,
    )  # fmt: skip
    return _product(x, weight, bias)


class _EagerProduct(torch.autograd.Function):
    """The product for eager calls that need a gradient: what the operator's autograd does, at a fraction of its cost.

    B and A are arguments of their own beside the weight that holds them, so that autograd sees them.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, b_NR: Tensor, a_RK: Tensor, bias_N: Tensor | None, weight: PreparedWeight
    ) -> Tensor:
        factors_trained = b_NR.requires_grad or a_RK.requires_grad
        ctx.save_for_backward(x if factors_trained else None, b_NR, a_RK)
        ctx.weight = weight
        ctx.bias_dtype = None if bias_N is None else bias_N.dtype
        return _product(x, weight, bias_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, _b_NR, _a_RK = ctx.saved_tensors
        weight, needed = ctx.weight, ctx.needs_input_grad
        dy_MN = dy.reshape(-1, dy.shape[-1])
        dx = db = da = dbias = None
        if needed[0]:
            dx = input_gradient(dy_MN, weight).view(*dy.shape[:-1], weight.k)
        if needed[1] or needed[2]:
            db, da = factor_gradients(dy_MN, x.reshape(-1, weight.k), weight)
        if needed[3]:
            dbias = dy_MN.sum(0, dtype=compute_dtype(dy.dtype)).to(ctx.bias_dtype)
        return dx, db, da, dbias, None


def _matmul_fake(x: Tensor, packed: Tensor, *_rest: Any) -> Tensor:
    return x.new_empty((*x.shape[:-1], packed.shape[0]))


def _grad_input(  # noqa: PLR0913, PLR0917
    dy: Tensor, packed: Tensor, b: Tensor, a: Tensor, levels: Tensor, words: Tensor | None, bits: int, decoder: int,
    unit: float,
) -> Tensor:  # fmt: skip
    weight = PreparedWeight(
        packed=packed, b_NR=b, a_RK=a, levels_L=levels, words=words, bits=bits, decoder=decoder, unit=unit,
        dtype=dy.dtype,
    )  # fmt: skip
    dx_MK = input_gradient(dy.reshape(-1, dy.shape[-1]), weight)
    return dx_MK.view(*dy.shape[:-1], a.shape[1])


def _grad_input_fake(dy: Tensor, _packed: Tensor, _b: Tensor, a: Tensor, *_rest: Any) -> Tensor:
    return dy.new_empty((*dy.shape[:-1], a.shape[1]))


def _grad_factors(  # noqa: PLR0913, PLR0917
    dy: Tensor, x: Tensor, packed: Tensor, b: Tensor, a: Tensor, levels: Tensor, words: Tensor | None, bits: int,
    decoder: int, unit: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    weight = PreparedWeight(
        packed=packed, b_NR=b, a_RK=a, levels_L=levels, words=words, bits=bits, decoder=decoder, unit=unit,
        dtype=x.dtype,
    )  # fmt: skip
    return factor_gradients(dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1]), weight)


def _grad_factors_fake(
    _dy: Tensor, _x: Tensor, _packed: Tensor, b: Tensor, a: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor]:
    return b.new_empty(b.shape), a.new_empty(a.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, packed, b, a, levels, words, _grid_bytes, _a_columns, _counters, bias, bits, decoder, unit = inputs
    factors_trained = b.requires_grad or a.requires_grad
    ctx.save_for_backward(x if factors_trained else None, packed, b, a, levels, words)
    ctx.numbers = (bits, decoder, unit)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, *operands = ctx.saved_tensors
    needed = ctx.needs_input_grad
    grads: list[Tensor | None] = [None] * len(needed)
    if needed[_X]:
        grads[_X] = _GRAD_INPUT(dy, *operands, *ctx.numbers)
    if needed[_B] or needed[_A]:
        grads[_B], grads[_A] = _GRAD_FACTORS(dy, x, *operands, *ctx.numbers)
    if needed[_BIAS]:
        grads[_BIAS] = dy.reshape(-1, dy.shape[-1]).sum(0, dtype=compute_dtype(dy.dtype)).to(ctx.bias_dtype)
    return tuple(grads)


for _name, _implementation, _fake in (
    ("matmul", _matmul, _matmul_fake),
    ("matmul_grad_input", _grad_input, _grad_input_fake),
    ("matmul_grad_factors", _grad_factors, _grad_factors_fake),
):
    _LIBRARY.impl(_name, _implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lords_bench::{_name}", _fake, lib=_LIBRARY)
torch.library.register_autograd("lords_bench::matmul", _backward, setup_context=_setup_context, lib=_LIBRARY)
engine.install(lords_matmul)
