"""Adapters: what fine-tuning trained, apart from the codes it belongs to.

A LoRDS adapter is B and A of every layer; it replaces those of the base and means nothing beside other codes, so the
hash of the codes goes with it and is checked. An additive adapter (QLoRA, LoftQ, QPiSSA) is `up` and `down`, and
belongs to its base in the same way. Any number of adapters share one set of codes:

    adapter = take_adapter(model)            a copy of what the model computes with now
    save_adapter(adapter, path)              one safetensors file, nothing pickled
    use_adapter(model, load_adapter(path))   swap: tensors change places, codes stay
    to_inference(model)                      merge: a LoRDS adapter is in place already, only the mode changes

On disk: tensors `<layer>.<name>`, and as metadata the format, its version and per layer the hash and the scaling.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lords_bench.errors import ModelError, UsageError, reason_of
from lords_bench.json_object import object_of
from lords_bench.reference.tensor_files import is_there, read_header, read_tensors, require_as_written, write_tensors
from lords_bench.reference.weights import STORAGE_DTYPES, LordsWeight
from lords_bench.training.frozen_linear import FrozenLinear, LoraLinear
from lords_bench.training.lords_linear import LordsLinear
from lords_bench.training.prepare import quantized_layers

FORMAT = "lords-bench/adapter"
VERSION = "1.0"
# Of a scaling, which is alpha / R.
LARGEST = 1e6


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LayerAdapter:
    """The adapter of one layer.

    Attributes:
        tensors: the two factors by the name they have in the layer: `scale_b` and `scale_a`, or `up` and `down`.
        base_sha256: hash of the codes (and, for additive adapters, scales) that they were trained with.
        scaling: what an additive adapter is multiplied with; 1 for LoRDS.
    """

    tensors: Mapping[str, Tensor]
    base_sha256: str
    scaling: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Adapter:
    """Adapters of a model's layers by layer name."""

    layers: Mapping[str, LayerAdapter]

    def to_dtype(self, dtype: torch.dtype) -> "Adapter":
        """The adapter rounded to a storage dtype."""
        return Adapter(
            layers={
                name: replace(layer, tensors={part: tensor.to(dtype) for part, tensor in layer.tensors.items()})
                for name, layer in self.layers.items()
            }
        )


def take_adapter(model: nn.Module) -> Adapter:
    """A copy of the adapter that a model computes with now.

    Raises:
        UsageError: a layer is in QAT, or the model has no layer with an adapter.
    """
    layers = {
        name: LayerAdapter(
            tensors={part: getattr(layer, part).detach().clone() for part in layer.adapter_names},
            base_sha256=layer.base_sha256(),
            scaling=layer.scaling if isinstance(layer, LoraLinear) else 1.0,
        )
        for name, layer in _adapted_layers(model).items()
    }
    return Adapter(layers=layers)


@torch.no_grad()
def use_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Puts an adapter in place of the model's present one, in every layer or, on an error, in none.

    In PEFT mode the model gets float32 copies to train: make the optimizer afterwards. In inference mode its tensors
    are the adapter's own, converted only if they are of another dtype than the layer stores.

    Raises:
        UsageError: a layer is in QAT, or the model has no layer with an adapter.
        ModelError: the adapter is of another base, of other layers, or of another kind or shape.
    """
    layers = _adapted_layers(model)
    lacking, foreign = sorted(layers.keys() - adapter.layers.keys()), sorted(adapter.layers.keys() - layers.keys())
    if lacking or foreign:
        problem = f"lacks layer {lacking[0]!r}" if lacking else f"has layer {foreign[0]!r}, which the model has not"
        raise ModelError(f"the adapter {problem}; prepare the model as it was when the adapter was trained")
    for name, layer in layers.items():
        _check_fit(name, layer, adapter.layers[name])
    for name, layer in layers.items():
        _put(layer, adapter.layers[name])


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter in the dtype it has; `load_adapter` returns it bit for bit.

    Raises:
        StoreError: the file cannot be written; what was there before is untouched.
    """
    tensors = {
        f"{name}.{part}": tensor for name, layer in adapter.layers.items() for part, tensor in layer.tensors.items()
    }
    described = {
        name: {"base_sha256": layer.base_sha256, "scaling": layer.scaling} for name, layer in adapter.layers.items()
    }
    write_tensors(
        tensors, path, {"format": FORMAT, "version": VERSION, "layers": json.dumps(described, sort_keys=True)}
    )


def load_adapter(path: Path, *, device: torch.device | str = "cpu") -> Adapter:
    """Read what `save_adapter` wrote.

    Raises:
        ModelError: the file is missing, truncated, not of this format, of an unknown version, or holds tensors that
            are not finite pairs of factors.
    """
    if not is_there(path):
        raise ModelError(f"no adapter at {path}; give the file that save_adapter wrote")
    header, metadata = read_header(path)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}; give an adapter")
    version = metadata.get("version", "")
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ModelError(f"{path} has adapter version {version!r}, this is {VERSION}; update lords_bench")
    # An adapter may have any dtype, so that only the file itself can say which it had.
    require_as_written(header, metadata, path)
    tensors, _metadata = read_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".")
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path} has non-finite numbers in {key!r}; train the adapter again")
        parts.setdefault(layer, {})[part] = tensor.to(device)
    layers = {name: _described(name, about, parts, path) for name, about in _descriptions(metadata, path).items()}
    undescribed = sorted(parts.keys() - layers.keys())
    if undescribed:
        raise ModelError(f"{path} does not describe its layer {undescribed[0]!r}; fetch it again")
    return Adapter(layers=layers)


@torch.no_grad()
def to_inference(model: nn.Module) -> tuple[str, ...]:
    """Ends training, in place: every prepared layer computes with what it would store; names of the layers.

    A LoRDS adapter merges by changing the layer's mode: B and A are rounded to the storage dtype, the operator and the
    bytes it reads are those of the base. A layer in QAT becomes one on its exported weight.

    Raises:
        UsageError: no prepared layer, or an additive adapter, which cannot be merged into codes.
        ModelError: a layer's scales cannot be stored; named.
    """
    layers = quantized_layers(model)
    if not layers:
        raise UsageError("the model has no quantized layer; use prepare_qat or prepare_peft first")
    for name, layer in layers.items():
        if isinstance(layer, LoraLinear):
            raise UsageError(
                f"layer {name}: an additive adapter cannot be merged into codes without quantizing again; "
                "keep it, or quantize export(model)'s dequantized weights"
            )
    for name, layer in layers.items():
        if isinstance(layer, LordsLinear) and layer.mode != "qat":
            layer.merge()
            continue
        weight = layer.export()
        frozen = (
            LordsLinear.from_weight(weight, layer.bias)
            if isinstance(weight, LordsWeight)
            else FrozenLinear(weight, layer.bias)
        )
        model.set_submodule(name, frozen.train(layer.training))
    model.requires_grad_(False)
    return tuple(layers)


def _adapted_layers(model: nn.Module) -> dict[str, LordsLinear | LoraLinear]:
    layers: dict[str, LordsLinear | LoraLinear] = {}
    for name, layer in quantized_layers(model).items():
        if layer.mode == "qat":
            raise UsageError(f"layer {name} is in QAT, where codes change; export it and fine-tune the result")
        if isinstance(layer, LordsLinear | LoraLinear):
            layers[name] = layer
    if not layers:
        raise UsageError("the model has no layer with an adapter; use prepare_peft first")
    return layers


def _check_fit(name: str, layer: LordsLinear | LoraLinear, adapter: LayerAdapter) -> None:
    first, second = layer.adapter_names
    if set(adapter.tensors) != {first, second}:
        found = ", ".join(sorted(adapter.tensors))
        raise ModelError(f"layer {name}: the adapter has {found}, the layer {first}, {second}; use the method's own")
    b_NR, a_RK = adapter.tensors[first], adapter.tensors[second]
    n, k = layer.out_features, layer.in_features
    if b_NR.ndim != 2 or a_RK.ndim != 2 or (b_NR.shape[0], a_RK.shape[1]) != (n, k) or b_NR.shape[1] != a_RK.shape[0]:
        shapes = f"{tuple(b_NR.shape)} and {tuple(a_RK.shape)}"
        raise ModelError(f"layer {name}: the adapter's {shapes} do not fit a {n}×{k} layer with one rank")
    if adapter.base_sha256 != layer.base_sha256():
        raise ModelError(
            f"layer {name}: the adapter belongs to other codes ({adapter.base_sha256[:12]}…, not "
            f"{layer.base_sha256()[:12]}…); load the base it was trained on"
        )


def _put(layer: LordsLinear | LoraLinear, adapter: LayerAdapter) -> None:
    for part in layer.adapter_names:
        present, tensor = getattr(layer, part), adapter.tensors[part]
        if layer.mode == "peft":
            placed = tensor.to(present.device, present.dtype, copy=True)
        else:
            placed = tensor.to(present.device, STORAGE_DTYPES[layer.spec.scale_dtype])
        setattr(layer, part, nn.Parameter(placed, requires_grad=present.requires_grad))
    if isinstance(layer, LoraLinear):
        layer.scaling = adapter.scaling
    else:
        layer.forget_prepared()


def _descriptions(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        return object_of(metadata.get("layers", ""))
    except ValueError as error:
        raise ModelError(f"{path} has a malformed list of layers ({reason_of(error)}); fetch it again") from error


def _described(name: str, about: Any, parts: Mapping[str, dict[str, Tensor]], path: Path) -> LayerAdapter:
    if name not in parts:
        raise ModelError(f"{path} lacks the tensors of layer {name!r}; fetch it again")
    if not isinstance(about, dict) or not isinstance(about.get("base_sha256"), str):
        raise ModelError(f"{path} does not say which codes layer {name!r} belongs to; fetch it again")
    scaling: Any = about.get("scaling")
    # NaN and numbers beyond a float's range are JSON, too.
    if type(scaling) not in {float, int} or not -LARGEST <= scaling <= LARGEST:
        raise ModelError(f"{path} has scaling {scaling!r:.60} for layer {name!r}; fetch it again")
    return LayerAdapter(tensors=parts[name], base_sha256=about["base_sha256"], scaling=float(scaling))
