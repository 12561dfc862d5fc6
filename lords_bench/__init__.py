"""LoRDS, low-bit weights with a continuous low-rank scale: the open reference, and its judge.

    import lords_bench
    weight = lords_bench.quantize(weight_NK, lords_bench.QuantSpec(method="lords", bits=4, block=64))
    weight.dequantize(), weight.bits_per_weight, weight.to("cuda")

Importing this package loads the standard library only; torch is loaded by the first use of `quantize`.
"""

from typing import TYPE_CHECKING, Any

from lords_bench.spec import Codebook, QuantSpec

if TYPE_CHECKING:
    from lords_bench.reference.methods import quantize

__version__ = "0.1.0"

__all__ = ["Codebook", "QuantSpec", "__version__", "quantize"]


def __getattr__(name: str) -> Any:
    if name == "quantize":
        from lords_bench.reference.methods import quantize

        return quantize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
