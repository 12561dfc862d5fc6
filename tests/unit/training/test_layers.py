"""Every prepared layer stands in for an `nn.Linear`: shapes, autograd, autocast, checkpointing, compiling, storing."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lords_bench.errors import UsageError
from lords_bench.quant import QuantSpec
from lords_bench.reference.adapters import start_adapter
from lords_bench.reference.methods import quantize
from lords_bench.training import BlockLinear, FrozenLinear, LoraLinear, LordsLinear, QuantizedLinear

N, K = 48, 128


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(K, N)


def with_adapter(spec: QuantSpec) -> LoraLinear:
    layer = LoraLinear(start_adapter(linear().weight, spec, "qpissa", rank=3, alpha=6.0), linear().bias)
    layer.bias.requires_grad_(False)
    return layer


LORDS = QuantSpec(method="lords", bits=3, rank=3)
# A layer in every mode, and the number of its trained tensors.
LAYERS: dict[str, tuple[Callable[[], QuantizedLinear], int]] = {
    "lords-qat": (lambda: LordsLinear.for_qat(linear(), LORDS), 4),
    "lords-qat-learned": (lambda: LordsLinear.for_qat(linear(), LORDS, learn_levels=True), 5),
    "lords-qat-constant": (lambda: LordsLinear.for_qat(linear(), LORDS, gradient="constant-codes"), 4),
    "block-qat": (lambda: BlockLinear.for_qat(linear(), QuantSpec(method="block-opt", bits=2)), 3),
    "int-qat": (lambda: BlockLinear.for_qat(linear(), QuantSpec(method="int-rtn", bits=3)), 4),
    "lords-peft": (lambda: LordsLinear.from_weight(quantize(linear().weight, LORDS), linear().bias, mode="peft"), 3),
    "qpissa": (lambda: with_adapter(QuantSpec(method="nf4", double_quant=True)), 2),
    "qpissa-int": (lambda: with_adapter(QuantSpec(method="int-rtn", bits=4)), 2),
    "lords-inference": (lambda: LordsLinear.from_weight(quantize(linear().weight, LORDS)), 0),
    "block-inference": (lambda: FrozenLinear(quantize(linear().weight, QuantSpec(method="nf3"))), 0),
}
TRAINED = [name for name, (_, count) in LAYERS.items() if count]


def make(name: str) -> QuantizedLinear:
    return LAYERS[name][0]()


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(layer: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    run(x).square().sum().backward()
    return {"x": x.grad, **{name: p.grad for name, p in layer.named_parameters() if p.requires_grad}}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        error = (tensor - expected[name]).norm() / expected[name].norm()
        assert error < tolerance, f"{name}: {error}"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("shape", [(K,), (5, K), (2, 3, K), (0, K)])
def test_any_leading_shape_gives_the_product_with_the_exported_weight(name: str, shape: tuple[int, ...]) -> None:
    layer, x = make(name), normal(*shape)

    y = layer(x)

    expected = x @ layer.export().dequantize().T + (0 if layer.bias is None else layer.bias)
    assert y.shape == (*shape[:-1], N)
    # float16 storage of an adapter's factors, which the export rounds, is 5e-4; all other layers agree to float32
    assert torch.allclose(y, expected, atol=2e-3 if "qpissa" in name else 1e-5)


def test_a_strided_input_is_taken() -> None:
    layer, x = make("lords-peft"), normal(K, 6).T

    assert torch.allclose(layer(x), layer(x.contiguous()))


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_tensor_gets_a_gradient(name: str) -> None:
    layer, count = make(name), LAYERS[name][1]

    found = gradients(layer, normal(7, K), layer)

    assert len(found) == 1 + count
    assert all(bool((gradient != 0).any()) for gradient in found.values())


def test_gradients_of_a_lords_adapter_are_those_of_the_dense_expression() -> None:
    layer = make("lords-peft").double()
    layer.scale_b.data, layer.scale_a.data = layer.scale_b.data.double(), layer.scale_a.data.double()
    value_NK = layer.levels.double()[layer.export().codes().long()]

    def dense(x: Tensor) -> Tensor:
        return x @ (value_NK * (layer.scale_b @ layer.scale_a)).T + layer.bias

    x = normal(2, 9, K).double()
    assert_close(gradients(layer, x, layer), gradients(layer, x, dense), 1e-12)


def test_gradients_of_an_additive_adapter_are_those_of_the_dense_expression() -> None:
    layer = make("qpissa").double()
    layer.up.data, layer.down.data = layer.up.data.double(), layer.down.data.double()
    base_NK = FrozenLinear.export(layer).dequantize(torch.float64)

    def dense(x: Tensor) -> Tensor:
        return x @ (base_NK + 2.0 * layer.up @ layer.down).T + layer.bias

    x = normal(2, 9, K).double()
    assert_close(gradients(layer, x, layer), gradients(layer, x, dense), 1e-12)


@pytest.mark.parametrize("name", [name for name in LAYERS if "qat" not in name])
def test_autocast_on_frozen_codes_is_the_layer_on_a_bfloat16_input(name: str) -> None:
    """Bit for bit: the scales are not computed in bfloat16, only the input and the result are rounded."""
    layer, x = make(name), normal(4, K)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)

    assert y.dtype == torch.bfloat16
    if isinstance(layer, LoraLinear):
        # the adapter's products run in bfloat16 under autocast and in float32 without: 2^-8 of terms of size 1
        assert torch.allclose(y.float(), layer(x.bfloat16()).float(), atol=0.03)
    else:
        assert torch.equal(y, layer(x.bfloat16()))


@pytest.mark.parametrize("name", [name for name in LAYERS if "qat" in name])
def test_autocast_does_not_touch_fake_quantization(name: str) -> None:
    layer, x = make(name), normal(4, K)
    exact_NK = layer.fake_weight()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        fake_NK, y = layer.fake_weight(), layer(x)

    assert torch.equal(fake_NK, exact_NK)
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["lords-peft", "lords-qat"])
def test_autocast_keeps_the_gradients_of_factors_in_float32(name: str) -> None:
    layer, x = make(name), normal(16, K)
    exact = gradients(layer, x, layer)

    def run(moved: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(moved).float()

    found = gradients(layer, x, run)

    assert found["scale_b"].dtype == torch.float32
    assert_close(found, exact, 0.02)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_gives_the_same_gradients(name: str, reentrant: bool) -> None:
    layer, x = make(name), normal(6, K)

    found = gradients(layer, x, lambda moved: checkpoint(layer, moved, use_reentrant=reentrant))

    assert_close(found, gradients(layer, x, layer), 1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_layer_has_one_graph_and_the_same_gradients(name: str) -> None:
    layer, x = make(name), normal(6, K)
    torch.compiler.reset()

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")

    assert torch.allclose(compiled(x), layer(x), atol=1e-6)
    assert_close(gradients(layer, x, compiled), gradients(layer, x, layer), 1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_a_state_dict_goes_round_through_a_file_without_pickle(name: str, tmp_path: Path) -> None:
    layer, other, x = make(name), make(name), normal(3, K)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    torch.save(layer.state_dict(), tmp_path / "state.pt")

    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)

    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_a_deep_copy_computes_the_same_and_shares_nothing(name: str) -> None:
    layer, x = make(name), normal(3, K)
    expected = layer(x)

    other = copy.deepcopy(layer)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.zero_()

    assert torch.equal(other(x), expected)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_converting_a_model_keeps_codes_scales_and_levels(name: str, dtype: torch.dtype) -> None:
    layer = make(name)
    kept = {name: getattr(layer, name).clone() for name in layer.kept_dtypes if getattr(layer, name) is not None}
    if layer.mode != "inference":
        gradients(layer, normal(2, K), layer)

    layer.to(dtype)

    for part, tensor in kept.items():
        assert getattr(layer, part).dtype == tensor.dtype
        assert torch.equal(getattr(layer, part), tensor)
    if layer.mode == "qat":
        assert layer.weight.dtype == dtype
    else:
        assert layer(normal(2, K).to(dtype)).dtype == dtype


def test_a_grown_rank_changes_nothing_at_first_and_is_trained() -> None:
    weight = quantize(linear().weight, LORDS)
    layer = LordsLinear.from_weight(weight, mode="peft", rank=8)
    x = normal(5, K)

    found = gradients(layer, x, layer)

    assert layer.rank == 8
    assert torch.allclose(layer(x), x @ weight.dequantize().T, atol=1e-5)
    assert bool((found["scale_b"][:, 3:] != 0).all())


def test_a_rank_below_that_of_the_weight_is_refused() -> None:
    with pytest.raises(UsageError, match="rank 2 is below the 3 of the quantized weight"):
        LordsLinear.from_weight(quantize(linear().weight, LORDS), mode="peft", rank=2)


def test_a_layer_says_what_it_is() -> None:
    assert "in_features=128, out_features=48, bias=True, method=lords, bits=3, mode=qat" in repr(make("lords-qat"))


@pytest.mark.parametrize("module", [nn.Conv1d(4, 4, 1), nn.Bilinear(4, 4, 4)])
def test_only_a_linear_layer_is_trained(module: nn.Module) -> None:
    with pytest.raises(UsageError, match=f"cannot quantize a {type(module).__name__}"):
        LordsLinear.for_qat(module, LORDS)
