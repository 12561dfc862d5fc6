"""Memory of one training step: what every prepared layer keeps for its backward, and the peak.

Kept bytes are counted by hooks on the tensors that autograd saves: each storage once per layer, parameters and buffers
left out, for they exist anyway. The input of the layer is among them where its backward needs it. The peak is read
from the allocator: by torch's profiler on a CPU, by the allocator's own counter on a CUDA device.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lords_bench.training.prepare import quantized_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerMemory:
    """Bytes of one layer.

    Attributes:
        stored_bytes: its parameters and buffers.
        gradient_bytes: gradients of its parameters after the step.
        kept_bytes: what its forward keeps for the backward, beside the stored ones.
        largest_kept_bytes: the largest single tensor of these.
    """

    stored_bytes: int
    gradient_bytes: int
    kept_bytes: int
    largest_kept_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingMemory:
    """Memory of one step.

    Attributes:
        layers: by name, in model order.
        peak_bytes: most bytes that were allocated at one time during forward and backward, above those at the start.
        largest_allocation_bytes: the largest single allocation of the step; None on a CUDA device.
    """

    layers: dict[str, LayerMemory]
    peak_bytes: int
    largest_allocation_bytes: int | None


def training_memory(model: nn.Module, loss_of: Callable[[], Tensor]) -> TrainingMemory:
    """Runs one forward and backward and says what memory they took; gradients are cleared before and left after.

    Args:
        model: a prepared model.
        loss_of: runs the forward and returns the loss.
    """
    layers = quantized_layers(model)
    model.zero_grad()
    kept: dict[str, dict[int, int]] = {name: {} for name in layers}
    parameter = next(model.parameters())
    with _peak(parameter.device) as peak, _kept_by_layer(model, kept):
        loss_of().backward()
    return TrainingMemory(
        layers={
            name: LayerMemory(
                stored_bytes=_bytes([*layer.parameters(), *layer.buffers()]),
                gradient_bytes=_bytes([p.grad for p in layer.parameters() if p.grad is not None]),
                kept_bytes=sum(kept[name].values()),
                largest_kept_bytes=max(kept[name].values(), default=0),
            )
            for name, layer in layers.items()
        },
        peak_bytes=peak["peak"],
        largest_allocation_bytes=peak.get("largest"),
    )


@contextmanager
def _kept_by_layer(model: nn.Module, kept: dict[str, dict[int, int]]) -> Iterator[None]:
    """Notes the storages that autograd saves while a layer's forward runs, by layer."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    running: list[str] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if running and storage.data_ptr() not in own:
            kept[running[-1]][storage.data_ptr()] = storage.nbytes()
        return tensor

    def entering(name: str) -> Callable[..., None]:
        return lambda *_arguments: running.append(name)

    def leaving(*_arguments: Any) -> None:
        running.pop()

    with ExitStack() as stack:
        for name, layer in quantized_layers(model).items():
            stack.enter_context(_removed(layer.register_forward_pre_hook(entering(name))))
            stack.enter_context(_removed(layer.register_forward_hook(leaving)))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor))
        yield


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _peak(device: torch.device) -> Iterator[dict[str, int]]:
    """Fills the yielded mapping when the block ends: `peak`, and `largest` on a CPU."""
    found: dict[str, int] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found["peak"] = torch.cuda.max_memory_allocated(device) - before
        return
    # Events are accumulated because torch 2.11 warns of losing those of earlier cycles otherwise, although this is one.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        yield found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text("utf-8"))["traceEvents"] if event["name"] == "[memory]"]
    changes = [event["args"]["Bytes"] for event in sorted(events, key=lambda event: event["args"]["Ev Idx"])]
    level = found["peak"] = 0
    for change in changes:
        level += change
        found["peak"] = max(found["peak"], level)
    found["largest"] = max(changes, default=0)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
