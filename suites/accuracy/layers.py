"""Linear layers of a model, quantized and dequantized one at a time, beside the weights they replace."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lords_bench.errors import ModelError, SpecError, WeightError
from lords_bench.integrations.hf_model import CausalModel, LinearLayer
from lords_bench.quant import QuantSpec
from lords_bench.reference.methods import quantize
from lords_bench.reference.weights import QuantizedWeight


class QuantizedLayer(NamedTuple):
    """Dequantized weight_NK in the model's dtype, and what it cost."""

    weight_NK: Tensor
    squared_error: float
    squared_norm: float
    stored_bytes: int


def quantize_layer(
    layer: LinearLayer, spec: QuantSpec, *, hessian_KK: Tensor | None = None, input_weighted: bool = False
) -> QuantizedWeight:
    """The layer's own weight_NK quantized.

    Args:
        layer: what to quantize.
        spec: how.
        hessian_KK: of the layer's calibration inputs, where spec or weighting needs one.
        input_weighted: whether errors are weighted by the Hessian's diagonal, the mean square of each input.

    Raises:
        SpecError, WeightError: the layer cannot be quantized so; the message names it.
    """
    input_weight_K = hessian_KK.diagonal() if input_weighted and hessian_KK is not None else None
    try:
        return quantize(
            layer.module.weight.data,
            spec,
            hessian_KK=hessian_KK if spec.needs_hessian else None,
            input_weight_K=input_weight_K,
        )
    except (SpecError, WeightError) as error:
        raise type(error)(f"layer {layer.name}: {error}") from error


def dequantized_layer(layer: LinearLayer, quantized: QuantizedWeight) -> QuantizedLayer:
    """The quantized weight as the model computes with it, beside the layer's own."""
    weight_NK = quantized.dequantize(dtype=layer.module.weight.dtype)
    return _beside_own(layer, weight_NK, sum(tensor.nbytes for tensor in quantized.tensors().values()))


def _beside_own(layer: LinearLayer, weight_NK: Tensor, stored_bytes: int) -> QuantizedLayer:
    own_NK = layer.module.weight.data.double()
    return QuantizedLayer(
        weight_NK=weight_NK,
        squared_error=float((own_NK - weight_NK.double()).square().sum()),
        squared_norm=float(own_NK.square().sum()),
        stored_bytes=stored_bytes,
    )


def replaced_layers(
    reference: CausalModel, model: CausalModel, quantized: Mapping[str, QuantizedWeight]
) -> dict[str, QuantizedLayer]:
    """The linear weights of `model`, to be measured in their places in `reference`.

    Args:
        reference: the unquantized model.
        model: the same model but for its linear weights.
        quantized: what its linear weights were dequantized from, by layer name; {} where they were never quantized.

    Raises:
        ModelError: the models differ in more than their linear weights.
    """
    names = [layer.name for layer in reference.layers]
    others = dict(reference.model.named_parameters())
    for name, parameter in model.model.named_parameters():
        other = others.get(name)
        is_same = other is not None and parameter.shape == other.shape
        is_linear = name.removesuffix(".weight") in names
        if other is None or not is_same or not (is_linear or torch.equal(parameter, other)):
            raise ModelError(f"{model.source!r} and {reference.source!r} differ in {name}; give the model it came from")
    replaced = {}
    for own, layer in zip(reference.layers, model.layers, strict=True):
        if own.name in quantized:
            replaced[own.name] = dequantized_layer(own, quantized[own.name])
        else:
            replaced[own.name] = _beside_own(own, layer.module.weight.data, layer.module.weight.nbytes)
    return replaced
