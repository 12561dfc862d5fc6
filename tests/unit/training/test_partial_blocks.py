"""Training block scales over in features that the block does not divide."""

import pytest
import torch
from torch import nn

from lords_bench.quant import QuantSpec
from lords_bench.reference.methods import quantize
from lords_bench.training import prepare_peft, prepare_qat
from lords_bench.training.layer import QuantizedLinear

K, N = 40, 12


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(K, N), nn.ReLU(), nn.Linear(N, 8))


@pytest.mark.parametrize("method", ["block-opt", "int-rtn"])
def test_qat_computes_with_the_weight_that_it_would_export(method: str) -> None:
    model, spec = make_model(), QuantSpec(method=method, bits=3, block=16)
    start = quantize(model[0].weight, spec)

    prepare_qat(model, spec, skip=["2"])
    layer = model[0]
    assert isinstance(layer, QuantizedLinear)
    model(torch.ones(3, K)).square().sum().backward()

    assert torch.equal(layer.export().dequantize(), start.dequantize())
    torch.testing.assert_close(layer.fake_weight().detach(), start.dequantize(), rtol=1e-5, atol=1e-7)  # type: ignore[operator]
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())


def test_additive_adapters_sit_on_such_a_base() -> None:
    model = make_model()

    prepare_peft(model, "qlora", QuantSpec(method="nf4", block=16, double_quant=True), rank=2, skip=["2"])

    assert model(torch.ones(3, K)).shape == (3, 8)
