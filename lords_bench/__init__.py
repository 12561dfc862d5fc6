"""LoRDS, low-bit weights with a continuous low-rank scale: the open reference, and its judge.

    import lords_bench
    weight = lords_bench.quantize(weight_NK, lords_bench.QuantSpec(method="lords", bits=4, block=64))
    weight.dequantize(), weight.bits_per_weight, weight.to("cuda")

    lords_bench.prepare_qat(model, lords_bench.QuantSpec(method="lords", bits=3))  # in place; then train as ever
    weights = lords_bench.export(model)  # quantized weights by layer name

    model = lords_bench.from_pretrained("folder")  # a quantized transformers model

Importing this package loads the standard library only; torch is loaded by the first use of a function.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lords_bench.quant import Codebook, QuantSpec
from lords_bench.version import __version__

if TYPE_CHECKING:
    from lords_bench.integrations.hf_config import LordsConfig
    from lords_bench.integrations.hf_quantizer import from_pretrained
    from lords_bench.reference.methods import quantize
    from lords_bench.training import export, prepare_peft, prepare_qat

__all__ = [
    "Codebook",
    "LordsConfig",
    "QuantSpec",
    "__version__",
    "export",
    "from_pretrained",
    "prepare_peft",
    "prepare_qat",
    "quantize",
]

# Public functions and the modules they are in, each imported when its function is first used.
_MODULES = {
    "LordsConfig": "lords_bench.integrations.hf_config",
    "export": "lords_bench.training",
    "from_pretrained": "lords_bench.integrations.hf_quantizer",
    "prepare_peft": "lords_bench.training",
    "prepare_qat": "lords_bench.training",
    "quantize": "lords_bench.reference.methods",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
