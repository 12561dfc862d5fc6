"""The operators on a CPU: right against a dense product, differentiable, compiled, and clear about bad input."""

import gc
import re
import weakref
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lords_bench.errors import UsageError
from lords_bench.kernels.common.prepared import REFERENCE, PreparedWeight, prepare
from lords_bench.products import ops
from lords_bench.products.ops import lords_matmul
from lords_bench.quant import QuantSpec
from lords_bench.reference.methods import quantize
from lords_bench.reference.packing import pack_codes
from lords_bench.reference.weights import LordsWeight


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stored:
    """The fields of a stored LoRDS weight that preparing reads."""

    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    bits: int


def make_weight(
    n: int = 24,
    k: int = 150,
    rank: int = 5,
    bits: int = 4,
    *,
    dtype: torch.dtype = torch.float32,
    trained: bool = False,
) -> tuple[Stored, Tensor]:
    """A stored weight and the float64 matrix that it means."""
    generator = torch.Generator().manual_seed(0)
    codes_NK = torch.randint(0, 1 << bits, (n, k), generator=generator, dtype=torch.uint8)
    b_NR = torch.randn(n, rank, generator=generator).to(dtype).requires_grad_(trained)
    a_RK = torch.randn(rank, k, generator=generator).to(dtype).requires_grad_(trained)
    levels_L = torch.linspace(-1, 1, 1 << bits)
    stored = Stored(packed=pack_codes(codes_NK, bits), b_NR=b_NR, a_RK=a_RK, levels_L=levels_L, bits=bits)
    return stored, levels_L.double()[codes_NK.long()] * (b_NR.detach().double() @ a_RK.detach().double())


def make_x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_product_is_that_with_the_dense_weight(bits: int, dtype: torch.dtype) -> None:
    weight, w_NK = make_weight(bits=bits)
    x, bias_N = make_x(3, 150, dtype=dtype), make_x(24, dtype=dtype)

    y = lords_matmul(x, weight, bias_N)

    expected = x.double() @ w_NK.t() + bias_N.double()
    magnitude = x.double().abs() @ w_NK.abs().t() + bias_N.double().abs()
    # Rounding of a 150-term fp32 sum of products with a 5-term S, then once to the result's dtype.
    fp32 = 160 * torch.finfo(torch.float32).eps
    assert y.dtype == dtype
    assert bool(((y.double() - expected).abs() <= fp32 * magnitude + torch.finfo(dtype).eps * expected.abs()).all())


def test_leading_dimensions_are_kept_and_strides_do_not_matter() -> None:
    weight, _ = make_weight()
    x = make_x(150, 2, 3).permute(1, 2, 0)

    y = lords_matmul(x, weight)

    assert y.shape == (2, 3, 24)
    torch.testing.assert_close(y[1, 2], lords_matmul(x[1, 2].contiguous(), weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 150), (4, 0, 150)])
def test_an_empty_batch_gives_an_empty_result(shape: tuple[int, ...]) -> None:
    weight, _ = make_weight()

    assert lords_matmul(make_x(*shape), weight).shape == (*shape[:-1], 24)


def test_gradients_are_those_of_the_dense_product() -> None:
    weight, w_NK = make_weight(dtype=torch.float64, trained=True)
    x, bias_N = make_x(4, 150, dtype=torch.float64).requires_grad_(), make_x(24, dtype=torch.float64).requires_grad_()
    inputs = (x, weight.b_NR, weight.a_RK, bias_N)
    dy = make_x(4, 24, dtype=torch.float64)
    level_NK = w_NK / (weight.b_NR @ weight.a_RK).detach()

    found = torch.autograd.grad(lords_matmul(x, weight, bias_N), inputs, dy)

    dense = x @ (level_NK * (weight.b_NR @ weight.a_RK)).t() + bias_N
    for ours, theirs in zip(found, torch.autograd.grad(dense, inputs, dy), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_only_the_gradients_that_are_asked_for_are_computed() -> None:
    weight, _ = make_weight()
    x = make_x(2, 150).requires_grad_()

    lords_matmul(x, weight).sum().backward()

    assert x.grad is not None
    assert weight.b_NR.grad is None


@pytest.mark.parametrize("trained", [False, True])
def test_operator_passes_opcheck(trained: bool) -> None:
    weight, _ = make_weight(trained=trained)
    w = prepare(weight, torch.float32)
    x = make_x(2, 3, 150).requires_grad_(trained)
    arguments = (
        x, w.packed, w.b_NR, w.a_RK, w.levels_L, w.words, w.grid_bytes, w.a_columns, w.counters, make_x(24), w.bits,
        w.decoder, w.unit,
    )  # fmt: skip

    torch.library.opcheck(torch.ops.lords_bench.matmul.default, arguments)


def test_gradient_operators_pass_opcheck() -> None:
    weight, _ = make_weight()
    dy, x = make_x(3, 24), make_x(3, 150)
    operands = (weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, None, weight.bits, REFERENCE, 1.0)

    torch.library.opcheck(torch.ops.lords_bench.matmul_grad_input.default, (dy, *operands))
    torch.library.opcheck(torch.ops.lords_bench.matmul_grad_factors.default, (dy, x, *operands))


def test_a_compiled_function_without_graph_breaks_gives_the_same_result_and_gradients() -> None:
    weight = prepare(make_weight(trained=True)[0], torch.float32)

    def layer(x: Tensor) -> Tensor:
        return torch.nn.functional.silu(lords_matmul(x, weight)) * 2

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for m in (2, 5):
        x = make_x(m, 150).requires_grad_()
        torch.testing.assert_close(compiled(x), layer(x), rtol=0, atol=0)
        gradients = [torch.autograd.grad(f(x).sum(), (x, weight.b_NR, weight.a_RK)) for f in (compiled, layer)]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_other_factors_share_the_codes_and_get_the_gradients() -> None:
    weight, _ = make_weight()
    b_NR, a_RK = make_x(24, 2).requires_grad_(), make_x(2, 150).requires_grad_()
    prepared = prepare(weight, torch.float32)

    lords_matmul(make_x(3, 150), prepared.with_factors(b_NR, a_RK)).sum().backward()

    assert b_NR.grad is not None
    assert a_RK.grad is not None
    assert prepared.with_factors(b_NR, a_RK).packed is prepared.packed


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (make_x(2, 149), r"x has 149 columns \(shape \(2, 149\)\), the weight has K = 150"),
        (torch.ones(2, 150, dtype=torch.int32), r"x is torch.int32; .* convert it with x.to\(\)"),
        (torch.ones(2, 150, device="meta"), "x is on meta, the weight on cpu; move one of them"),
        (torch.tensor(1.0), r"x has no columns \(shape \(\)\), the weight has K = 150"),
        (torch.ones(2, 150, dtype=torch.complex64), "x is torch.complex64; .* convert it"),
        (torch.ones(150, 2), r"x has 2 columns \(shape \(150, 2\)\), the weight has K = 150"),
    ],
)
def test_x_that_does_not_fit_is_refused_in_one_line(x: Tensor, message: str) -> None:
    weight, _ = make_weight()

    with pytest.raises(UsageError, match=message) as error:
        lords_matmul(x, weight)

    assert "\n" not in str(error.value)


def test_activations_of_another_dtype_than_prepared_for_are_refused() -> None:
    weight, _ = make_weight()
    prepared = prepare(weight, torch.float32)
    for_bf16 = PreparedWeight(
        packed=prepared.packed, b_NR=prepared.b_NR, a_RK=prepared.a_RK, levels_L=prepared.levels_L, bits=4,
        dtype=torch.bfloat16,
    )  # fmt: skip

    with pytest.raises(UsageError, match=r"x is torch.float32, the weight is prepared for torch.bfloat16"):
        lords_matmul(make_x(2, 150), for_bf16)


@pytest.mark.parametrize("shape", [(23,), (1, 24), (24, 1), ()])
def test_a_bias_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    weight, _ = make_weight()

    with pytest.raises(UsageError, match=rf"bias {re.escape(str(shape))} on cpu does not fit N = 24 on cpu"):
        lords_matmul(make_x(2, 150), weight, make_x(*shape))


def test_factors_that_do_not_fit_the_codes_are_refused() -> None:
    prepared = prepare(make_weight()[0], torch.float32)

    with pytest.raises(UsageError, match=r"B \(23, 2\) and A \(2, 150\) do not fit a 24×150 weight"):
        prepared.with_factors(make_x(23, 2), make_x(2, 150))


def test_too_many_levels_are_refused() -> None:
    weight, _ = make_weight(bits=2)
    levels = Stored(packed=weight.packed, b_NR=weight.b_NR, a_RK=weight.a_RK, levels_L=torch.ones(5), bits=2)

    with pytest.raises(UsageError, match="5 levels do not fit into 2 bits"):
        prepare(levels, torch.float32)


def test_a_call_that_nobody_else_has_to_see_goes_past_the_dispatcher_with_the_same_bits() -> None:
    weight = prepare(make_weight()[0], torch.float32)
    x, bias_N = make_x(3, 150), make_x(24)
    seen: list[str] = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    plain = lords_matmul(x, weight, bias_N)
    with Mode():
        through_the_operator = lords_matmul(x, weight, bias_N)

    assert seen[0] == "lords_bench.matmul.default"
    assert torch.equal(plain, through_the_operator)


def test_a_stored_weight_multiplies_itself_and_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = lords_weight()
    prepared: list[torch.dtype] = []
    plain_prepare = ops.prepare
    monkeypatch.setattr(ops, "prepare", lambda w, dtype: prepared.append(dtype) or plain_prepare(w, dtype))
    x = make_x(2, 3, 150)

    for _ in range(3):
        y = weight.matmul(x)
    weight.matmul(x.double())

    assert prepared == [torch.float32, torch.float64]
    torch.testing.assert_close(y, x @ weight.dequantize().t(), rtol=1e-4, atol=1e-4)


def test_a_factor_that_was_changed_in_place_is_seen() -> None:
    weight, x = lords_weight(), make_x(2, 150)
    before = weight.matmul(x)

    weight.b_NR.mul_(2)

    torch.testing.assert_close(weight.matmul(x), 2 * before)


def test_a_weight_that_was_moved_is_another_weight() -> None:
    weight = lords_weight()
    weight.matmul(make_x(2, 150))

    with pytest.raises(UsageError, match="x is on cpu, the weight on meta"):
        weight.to("meta").matmul(make_x(2, 150))


def test_what_was_prepared_goes_with_the_weight() -> None:
    weight = lords_weight()
    weight.matmul(make_x(2, 150))
    form = weakref.ref(ops.prepared_form(weight, torch.float32))

    del weight
    gc.collect()

    assert form() is None


def test_trained_factors_of_a_stored_weight_get_gradients_every_time() -> None:
    weight, x = lords_weight(), make_x(2, 150)
    trained = replace(weight, b_NR=weight.b_NR.float().requires_grad_(), a_RK=weight.a_RK.float().requires_grad_())

    for _ in range(2):
        gradients = torch.autograd.grad(trained.matmul(x).sum(), (trained.b_NR, trained.a_RK))

    expected = torch.autograd.grad((x @ trained.dequantize().t()).sum(), (trained.b_NR, trained.a_RK))
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-4)


def lords_weight() -> LordsWeight:
    weight = quantize(make_x(24, 150), QuantSpec(method="lords-paper", bits=4, block=64))
    assert isinstance(weight, LordsWeight)
    return weight
