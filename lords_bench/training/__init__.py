"""Training with quantized weights: quantization-aware (QAT) and parameter-efficient (PEFT), in plain PyTorch modules.

prepared = prepare_qat(model, QuantSpec(method="lords", bits=3))     # in place; then train as ever
prepared = prepare_peft(model, "lords", QuantSpec(method="lords"))   # only B and A are trained
weights = export(model)                                              # quantized weights by layer name
"""

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
