"""Training weights whose scales are stored in 8 bits: masters as ever, and export rounds by the rule of storing."""

import pytest
import torch
from torch import Tensor, nn

from lords_bench.quant import QuantSpec
from lords_bench.reference.methods import quantize
from lords_bench.reference.weights import QuantizedWeight
from lords_bench.training import export, prepare_peft, prepare_qat, to_inference
from lords_bench.training.layer import QuantizedLinear

N, K = 24, 64
SPECS = {
    "lords": QuantSpec(method="lords", bits=3, block=8, scale_bits=8),
    "learned": QuantSpec(method="lords", bits=3, block=8, levels="learned", scale_bits=8),
    "blocks": QuantSpec(method="block-opt", bits=3, block=16, scale_bits=8),
    "affine": QuantSpec(method="int-rtn", bits=3, block=16, scale_bits=8),
}


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(K, N), nn.ReLU(), nn.Linear(N, 8))


def layer_of(model: nn.Sequential) -> QuantizedLinear:
    layer = model[0]
    assert isinstance(layer, QuantizedLinear)
    return layer


def train(model: nn.Module, steps: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, K, generator=generator), torch.randn(64, 8, generator=generator)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    return loss.detach()


def same(first: QuantizedWeight, second: QuantizedWeight) -> bool:
    pairs = zip(first.tensors().items(), second.tensors().items(), strict=True)
    return all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


@pytest.mark.parametrize("name", SPECS)
def test_qat_starts_from_what_is_stored(name: str) -> None:
    model, spec = make_model(), SPECS[name]
    start = quantize(model[0].weight, spec)

    prepare_qat(model, spec, skip=["2"])

    assert same(layer_of(model).export(), start)


@pytest.mark.parametrize("name", ["lords", "blocks", "affine"])
def test_qat_computes_with_the_weight_that_it_would_export(name: str) -> None:
    model = make_model()
    prepare_qat(model, SPECS[name], skip=["2"])
    train(model)

    fake_NK = layer_of(model).fake_weight()  # type: ignore[operator]

    torch.testing.assert_close(fake_NK.detach(), layer_of(model).export().dequantize(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_qat_learns_and_its_masters_move_by_less_than_a_step(name: str) -> None:
    """The gradient goes through the rounding, so that small steps add up."""
    model = make_model()
    prepare_qat(model, SPECS[name], skip=["2"])
    before = {key: value.detach().clone() for key, value in layer_of(model).quantization_parameters().items()}

    first, last = train(model, steps=1), train(model, steps=40)

    assert float(last) < float(first)
    for key, value in layer_of(model).quantization_parameters().items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, before[key]), key


def test_peft_exports_by_the_same_rule_and_merging_changes_nothing_more() -> None:
    model = make_model()
    prepare_peft(model, "lords", SPECS["lords"], skip=["2"])
    train(model)

    exported = export(model)["0"]
    to_inference(model)
    merged = export(model)["0"]

    assert set(exported.tensors()) == {"packed", "b_codes_NR", "a_codes_RK", "rank_scale_R"}
    assert same(exported, merged)
    x = torch.ones(1, K)
    expected = x @ exported.dequantize().t() + layer_of(model).bias
    torch.testing.assert_close(layer_of(model)(x), expected, rtol=1e-5, atol=1e-5)
