"""Hessians of a model's linear layers, H_KK = mean of x xᵀ over the tokens of calibration windows.

    hessians = collect_hessians(model, windows)                    every layer at once, by name
    for group in iterate_hessians(model, windows, memory_bytes=…)  one input at a time, memory bounded

Inputs are seen by forward hooks while the model reads the windows, with its own weights as they are at that moment.
Layers that read the very same tensor (query, key and value; gate and up) share one Hessian, found out by a first run
over one window. A Hessian takes 4·K² bytes on the model's device: 64 MiB at K = 4096. Where all of them do not fit
`memory_bytes`, the windows are read several times, each time for as many inputs as fit, and only as deep into the model
as needed. Whoever exchanges the weights of the layers yielded so far makes later passes see the quantized model, as the
GPTQ paper does (arXiv 2210.17323, section 4).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lords_bench.errors import ModelError, UsageError
from lords_bench.integrations.hf_model import CausalModel, LinearLayer
from lords_bench.integrations.windows import Window
from lords_bench.reference.hessian import HessianAccumulator

HESSIAN_NUMBER_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InputHessian:
    """One layer input: the layers that read it, its Hessian (float32, on the model's device), and the tokens seen."""

    layer_names: tuple[str, ...]
    hessian_KK: Tensor
    token_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Input:
    """Layers that read one tensor; `called_once` is whether a forward pass calls each of them exactly once."""

    layers: tuple[LinearLayer, ...]
    called_once: bool


class _DeepEnoughError(Exception):
    """Ends a forward pass at the last layer that is listened to."""


def _ignore(fraction: float) -> None:
    del fraction


def _advance_pass(advance: Callable[[float], None], number: int, count: int, fraction: float) -> None:
    """Tells the fraction of all passes from the fraction of one."""
    advance((number + fraction) / count)


def collect_hessians(
    model: CausalModel, windows: Sequence[Window], advance: Callable[[float], None] = _ignore
) -> dict[str, Tensor]:
    """The Hessian of every layer by name; layers that share an input share the tensor.

    Raises:
        UsageError: no windows.
        ModelError: a layer that no token reached, or inputs that are not finite.
    """
    return {
        name: group.hessian_KK
        for group in iterate_hessians(model, windows, advance=advance)
        for name in group.layer_names
    }


def iterate_hessians(
    model: CausalModel,
    windows: Sequence[Window],
    *,
    memory_bytes: int | None = None,
    advance: Callable[[float], None] = _ignore,
) -> Iterator[InputHessian]:
    """One Hessian per distinct layer input, in the order in which the model computes them.

    Args:
        model: the model whose `layers` are calibrated.
        windows: calibration text; every token but a window's last is an input.
        memory_bytes: most that the Hessians of one pass may take together (a single one always fits); None is no limit.
        advance: is told the fraction done after each window.

    Raises:
        UsageError: no windows.
        ModelError: a layer that no token reached, or inputs that are not finite.
    """
    if not windows:
        raise UsageError("there are no calibration windows; give some text")
    passes = _passes(_distinct_inputs(model, windows[0]), memory_bytes)
    for number, inputs in enumerate(passes):
        sums = _accumulate(model, inputs, windows, partial(_advance_pass, advance, number, len(passes)))
        for listened, accumulator in zip(inputs, sums, strict=True):
            names = tuple(layer.name for layer in listened.layers)
            if not accumulator.count:
                raise ModelError(f"no calibration token reached layer {names[0]}; calibrate on more text")
            hessian_KK = accumulator.hessian_KK
            if not bool(torch.isfinite(hessian_KK).all()):
                raise ModelError(f"the inputs of layer {names[0]} are not finite; the model overflows in this dtype")
            yield InputHessian(layer_names=names, hessian_KK=hessian_KK, token_count=accumulator.count)


def _distinct_inputs(model: CausalModel, window: Window) -> list[_Input]:
    """Inputs in the order of computation; those of layers called never or repeatedly stand alone, at the end."""
    calls: list[list[LinearLayer]] = []
    previous: list[Tensor] = []

    def see(layer: LinearLayer, x: Tensor) -> None:
        # Identity with a tensor that is still held: an address could have been used again.
        if previous and previous[0] is x:
            calls[-1].append(layer)
        else:
            calls.append([layer])
            previous[:] = [x]

    _listen(model, {layer: partial(see, layer) for layer in model.layers}, [window], _ignore)
    counts = Counter(layer.name for group in calls for layer in group)
    once = [tuple(layer for layer in group if counts[layer.name] == 1) for group in calls]
    others = [layer for layer in model.layers if counts[layer.name] != 1]
    return [_Input(layers=group, called_once=True) for group in once if group] + [
        _Input(layers=(layer,), called_once=False) for layer in others
    ]


def _passes(inputs: Sequence[_Input], memory_bytes: int | None) -> list[list[_Input]]:
    """Inputs packed in order into passes of at most `memory_bytes`."""
    passes: list[list[_Input]] = [[]]
    used = 0
    for listened in inputs:
        size = HESSIAN_NUMBER_BYTES * listened.layers[0].shape[1] ** 2
        if memory_bytes is not None and passes[-1] and used + size > memory_bytes:
            passes.append([])
            used = 0
        passes[-1].append(listened)
        used += size
    return passes


def _accumulate(
    model: CausalModel, inputs: Sequence[_Input], windows: Sequence[Window], advance: Callable[[float], None]
) -> list[HessianAccumulator]:
    """One pass over the windows: the sums of each input, listened to at the first of its layers."""
    sums = [HessianAccumulator(listened.layers[0].shape[1], device=model.device) for listened in inputs]
    last = inputs[-1].layers[0] if all(listened.called_once for listened in inputs) else None

    def add(layer: LinearLayer, accumulator: HessianAccumulator, x: Tensor) -> None:
        accumulator.add(x)
        if layer is last:
            raise _DeepEnoughError

    listeners = {
        listened.layers[0]: partial(add, listened.layers[0], accumulator)
        for listened, accumulator in zip(inputs, sums, strict=True)
    }
    _listen(model, listeners, windows, advance)
    return sums


@torch.inference_mode()
def _listen(
    model: CausalModel,
    listeners: Mapping[LinearLayer, Callable[[Tensor], None]],
    windows: Sequence[Window],
    advance: Callable[[float], None],
) -> None:
    """Runs the model over the windows; a listener gets its layer's input, (…, K), before each call."""

    def hook(
        listener: Callable[[Tensor], None], module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]
    ) -> None:
        del module
        listener(args[0] if args else kwargs["input"])

    with ExitStack() as stack:
        for layer, listener in listeners.items():
            handle = layer.module.register_forward_pre_hook(partial(hook, listener), with_kwargs=True)
            stack.callback(handle.remove)
        for number, window in enumerate(windows):
            tokens = torch.tensor([window.tokens[:-1]], device=model.device)
            with suppress(_DeepEnoughError):
                model.model(input_ids=tokens, use_cache=False)
            advance((number + 1) / len(windows))
