"""Training with quantized weights: quantization-aware (QAT) and parameter-efficient (PEFT), in plain PyTorch modules.

prepared = prepare_qat(model, QuantSpec(method="lords", bits=3))     # in place; then train as ever
prepared = prepare_peft(model, "lords", QuantSpec(method="lords"))   # only B and A are trained
weights = export(model)                                              # quantized weights by layer name

The first use of a name loads torch; `settings` is read without it, by the command line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lords_bench.training.adapters import (
        Adapter,
        LayerAdapter,
        load_adapter,
        save_adapter,
        take_adapter,
        to_inference,
        use_adapter,
    )
    from lords_bench.training.block_linear import BlockLinear
    from lords_bench.training.frozen_linear import FrozenLinear, LoraLinear
    from lords_bench.training.layer import QuantizedLinear
    from lords_bench.training.lords_linear import LordsLinear
    from lords_bench.training.memory import LayerMemory, TrainingMemory, training_memory
    from lords_bench.training.prepare import (
        Prepared,
        export,
        optimizer_groups,
        prepare_peft,
        prepare_qat,
        quantized_layers,
        storage_bits_per_weight,
        trainable_count,
        trainable_parameters,
    )

__all__ = [
    "Adapter",
    "BlockLinear",
    "FrozenLinear",
    "LayerAdapter",
    "LayerMemory",
    "LoraLinear",
    "LordsLinear",
    "Prepared",
    "QuantizedLinear",
    "TrainingMemory",
    "export",
    "load_adapter",
    "optimizer_groups",
    "prepare_peft",
    "prepare_qat",
    "quantized_layers",
    "save_adapter",
    "storage_bits_per_weight",
    "take_adapter",
    "to_inference",
    "trainable_count",
    "trainable_parameters",
    "training_memory",
    "use_adapter",
]

# Where the names are, each in the first that has it.
_MODULES = ("prepare", "adapters", "memory")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(import_module, (f"{__name__}.{part}" for part in _MODULES)):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
