"""A trained model with plain linear layers that hold what would be stored."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lords_bench.reference.weights import QuantizedWeight


def materialise(model: nn.Module, weights: Mapping[str, QuantizedWeight]) -> None:
    """Replaces every prepared layer by an `nn.Linear` with its exported weight, dequantized to float32, in place."""
    for name, weight in weights.items():
        layer: Any = model.get_submodule(name)
        dense = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        dense.weight = nn.Parameter(weight.dequantize(torch.float32), requires_grad=False)
        if layer.bias is not None:
            dense.bias = layer.bias
        model.set_submodule(name, dense)
    model.eval()
