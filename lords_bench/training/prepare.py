"""Prepare a model for training with quantized weights, in place, and export what was trained."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lords_bench.errors import LordsBenchError, ModelError, SpecError, UsageError, WeightError
from lords_bench.quant import QuantSpec, parity_rank, require_spec
from lords_bench.reference.adapters import AdapterMethod, start_adapter
from lords_bench.reference.methods import quantize
from lords_bench.reference.qat import Gradient
from lords_bench.reference.weights import LordsWeight, QuantizedWeight
from lords_bench.training.block_linear import BlockLinear
from lords_bench.training.choice import choose_layers
from lords_bench.training.frozen_linear import LoraLinear
from lords_bench.training.layer import QuantizedLinear
from lords_bench.training.lords_linear import LordsLinear

PeftMethod = Literal["lords", "qlora", "loftq", "qpissa"]

# What each method of fine-tuning quantizes its base with where no spec is given.
DEFAULT_SPECS = {
    "lords": QuantSpec(method="lords"),
    "qlora": QuantSpec(method="nf4", double_quant=True),
    "loftq": QuantSpec(method="nf4"),
    "qpissa": QuantSpec(method="nf4"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What was done to a model: layers replaced, and modules with weights that were left, each with the reason."""

    replaced: tuple[str, ...]
    left: dict[str, str]

    def __str__(self) -> str:
        kept = "; ".join(f"{name} ({reason})" for name, reason in self.left.items())
        return f"{len(self.replaced)} linear layers quantized; left as they are: {kept or 'none'}"


def prepare_qat(
    model: nn.Module,
    spec: QuantSpec | None = None,
    *,
    gradient: Gradient = "lsq",
    learn_levels: bool | None = None,
    train_rest: bool = True,
    skip: Collection[str] = (),
    include_head: bool = False,
) -> Prepared:
    """Replace the linear layers of a model by layers in QAT mode, in place.

    Args:
        model: any module; its dense weights become the ones that are trained.
        spec: low-rank scales train B and A, block scales their scales, `int-rtn` scales and zero points.
        gradient: surrogate of the rounding, see `reference.qat`.
        learn_levels: train the levels as well; None is what the spec says.
        train_rest: whether all other parameters (embeddings, norms, biases) are trained too; else they are frozen.
        skip: names or shell patterns of layers to leave, e.g. `*.down_proj`.
        include_head: quantize the output head too, unless its weight is shared with an embedding.

    Raises:
        UsageError: the model is prepared already, holds no linear layer to quantize, or a pattern matches nothing.
        SpecError: the spec needs calibration inputs.
        ModelError: a weight cannot be quantized, or not trained with that spec; named by its layer.
    """
    spec = require_spec(spec or QuantSpec(method="lords"))
    if spec.needs_hessian:
        raise SpecError(f"method {spec.method!r} needs calibration inputs, which QAT does not take; use 'lords'")

    def build(linear: nn.Linear) -> QuantizedLinear:
        kind = LordsLinear if spec.is_low_rank else BlockLinear
        return kind.for_qat(linear, spec, gradient=gradient, learn_levels=learn_levels)

    prepared = _replace(model, build, skip=skip, include_head=include_head)
    model.requires_grad_(train_rest)
    for name in prepared.replaced:
        layer = _layer(model, name)
        layer.weight.requires_grad_(True)
        for parameter in layer.quantization_parameters().values():
            parameter.requires_grad_(True)
    return prepared


def prepare_peft(
    model: nn.Module,
    method: PeftMethod = "lords",
    spec: QuantSpec | None = None,
    *,
    rank: int | None = None,
    alpha: float | None = None,
    iterations: int = 5,
    skip: Collection[str] = (),
    include_head: bool = False,
) -> Prepared:
    """Quantize the linear layers of a model and make their adapters all that is trained, in place.

    Args:
        model: any module with dense weights.
        method: `lords` trains B and A; `qlora`, `loftq` and `qpissa` an additive adapter on a quantized base.
        spec: how weights are quantized; None is the method's own default. Its seed, plus the number of the layer, is
            that of a random start.
        rank: of the adapter. None is parity with the spec's block for every method, so that all train the same number
            of values; for `lords`, a rank above that of the quantized weight grows it.
        alpha: scaling of additive adapters times their rank; None is the rank.
        iterations: alternations of LoftQ.
        skip: names or shell patterns of layers to leave, e.g. `*.down_proj`.
        include_head: quantize the output head too, unless its weight is shared with an embedding.

    Raises:
        UsageError: the model is prepared already, holds no linear layer to quantize, or a pattern matches nothing.
        SpecError: unknown method, or a spec that does not fit it.
        ModelError: a weight cannot be quantized, or the rank does not fit it; named by its layer.
    """
    if method not in DEFAULT_SPECS:
        raise SpecError(f"unknown fine-tuning method {method!r}; known: {', '.join(DEFAULT_SPECS)}")
    spec = require_spec(spec or DEFAULT_SPECS[method])
    if spec.is_low_rank != (method == "lords"):
        wanted = "low-rank scales, such as 'lords'" if method == "lords" else "block scales, such as 'nf4'"
        raise SpecError(f"fine-tuning by {method!r} needs {wanted}; the spec has method {spec.method!r}")
    count = 0

    def build(linear: nn.Linear) -> QuantizedLinear:
        nonlocal count
        count += 1
        return _peft_layer(
            linear, method, spec, rank=rank, alpha=alpha, iterations=iterations, seed=spec.seed + count - 1
        )

    prepared = _replace(model, build, skip=skip, include_head=include_head)
    model.requires_grad_(False)
    for name in prepared.replaced:
        for parameter in _layer(model, name).quantization_parameters().values():
            parameter.requires_grad_(True)
    return prepared


def _peft_layer(
    linear: nn.Linear,
    method: PeftMethod,
    spec: QuantSpec,
    *,
    rank: int | None,
    alpha: float | None,
    iterations: int,
    seed: int,
) -> QuantizedLinear:
    if method == "lords":
        weight = quantize(linear.weight, spec)
        assert isinstance(weight, LordsWeight)
        return LordsLinear.from_weight(weight, linear.bias, mode="peft", rank=rank)
    n, k = linear.weight.shape
    adapter: AdapterMethod = method
    start = start_adapter(
        linear.weight,
        spec,
        adapter,
        rank=parity_rank(n, k, spec.block) if rank is None else rank,
        alpha=alpha,
        iterations=iterations,
        seed=seed,
    )
    return LoraLinear.from_weight(start, linear.bias)


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLinear]:
    """The prepared layers by name, in model order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that requires a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def trainable_count(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in trainable_parameters(model).values())


def export(model: nn.Module) -> dict[str, QuantizedWeight]:
    """The weight of every prepared layer as it would be stored, by layer name, each on its layer's device.

    A `LordsWeight` of layers with low-rank scales, else a `BlockwiseWeight` or `AffineWeight`: what `save_weights`
    takes. A layer with an additive adapter (`qlora`, `loftq`, `qpissa`) gives an `AdaptedWeight`: base and adapter are
    saved apart. The model stays as it is.

    Raises:
        UsageError: the model has no prepared layer.
        ModelError: a layer's scales cannot be stored; named.
    """
    layers = quantized_layers(model)
    if not layers:
        raise UsageError("the model has no quantized layer to export; use prepare_qat or prepare_peft first")
    exported = {}
    for name, layer in layers.items():
        try:
            exported[name] = layer.export()
        except WeightError as error:
            raise ModelError(f"layer {name}: {error}") from error
    return exported


def _replace(
    model: nn.Module,
    build: Callable[[nn.Linear], QuantizedLinear],
    *,
    skip: Collection[str],
    include_head: bool,
) -> Prepared:
    found: object = model
    if not isinstance(found, nn.Module):
        raise UsageError(f"model is a {type(found).__name__}; give an nn.Module")
    present = quantized_layers(model)
    if present:
        raise UsageError(f"layer {next(iter(present))!r} is quantized already; prepare a freshly loaded model")
    chosen, left = choose_layers(model, skip=skip, include_head=include_head)
    if not chosen:
        named = ", ".join(f"{name} ({reason})" for name, reason in list(left.items())[:3])
        raise UsageError(f"no nn.Linear to quantize; left: {named or 'nothing with weights'}")
    built: dict[str, QuantizedLinear] = {}
    for name, linear in chosen.items():
        try:
            built[name] = build(linear)
        except LordsBenchError as error:
            raise ModelError(f"layer {name}: {error}") from error
        built[name].train(linear.training)
    for name, layer in built.items():
        model.set_submodule(name, layer)
    return Prepared(replaced=tuple(built), left=left)


def _layer(model: nn.Module, name: str) -> QuantizedLinear:
    layer = model.get_submodule(name)
    assert isinstance(layer, QuantizedLinear)
    return layer


def optimizer_groups(
    model: nn.Module, *, learning_rate: float, scale_learning_rate: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, object]]:
    """Parameter groups for a torch optimizer: weight decay on dense matrices only.

    Decay would shrink scales, levels and norms, which have no reason to be small; a Trainer that decays by parameter
    name would do just that.

    Args:
        model: a prepared model.
        learning_rate: of dense weights, norms and biases.
        scale_learning_rate: of factors, scales, zero points, levels and adapters; None is `learning_rate`.
        weight_decay: of trained matrices outside the quantization parameters.
    """
    own = {
        id(parameter)
        for layer in quantized_layers(model).values()
        for parameter in layer.quantization_parameters().values()
    }
    parameters = trainable_parameters(model).values()
    rest = [parameter for parameter in parameters if id(parameter) not in own]
    scale_rate = learning_rate if scale_learning_rate is None else scale_learning_rate
    groups: list[dict[str, object]] = [
        {"params": [p for p in parameters if id(p) in own], "lr": scale_rate, "weight_decay": 0.0},
        {"params": [p for p in rest if p.ndim >= 2], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "lr": learning_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def storage_bits_per_weight(model: nn.Module) -> float:
    """Mean bits per weight over the prepared layers, as they would be stored, adapters included."""
    weights = export(model).values()
    total = sum(weight.shape[0] * weight.shape[1] for weight in weights)
    with torch.no_grad():
        return sum(weight.bits_per_weight * weight.shape[0] * weight.shape[1] for weight in weights) / total
