"""Nouns of what is asked for: codebooks, shapes, quantization specs, cases and suites. Standard library only."""

from lords_bench.spec.codebook import Codebook, named_codebook
from lords_bench.spec.quant import PRESETS, QuantSpec, parity_rank
from lords_bench.spec.shapes import GemmShape

__all__ = ["PRESETS", "Codebook", "GemmShape", "QuantSpec", "named_codebook", "parity_rank"]
