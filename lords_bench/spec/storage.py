"""What a `QuantSpec` must store for an N×K weight, from the spec alone.

Records count the bytes of the tensors that were really made. This is the other count, by the definition of the format
and without a tensor: where the two differ, one of them is wrong, and a comparison at equal bits is none. It is written
apart from `reference.packing` on purpose; a test ties the two together.
"""

from types import MappingProxyType

from lords_bench.spec.codebook import CODEBOOK_NAMES, named_codebook
from lords_bench.spec.quant import QuantSpec, ScaleDtype

SCALE_BYTES: MappingProxyType[ScaleDtype, int] = MappingProxyType({"float16": 2, "bfloat16": 2, "float32": 4})

# Inputs that a row's packed codes are padded to a multiple of.
_PACKED_INPUTS: MappingProxyType[int, int] = MappingProxyType({4: 128, 3: 256, 2: 128})
_FLOAT32_BYTES = 4
# Double quantization: one 8-bit code a scale, one float32 magnitude per 256 scales, one float32 mean.
_SCALES_PER_RUN = 256


def stored_bytes(spec: QuantSpec, n: int, k: int) -> int:
    """Bytes of packed codes, scales, zero points and levels of an N×K weight, padding included.

    Raises:
        SpecError: the rank exceeds min(N, K).
    """
    bits = spec.bits_per_code
    inputs = _PACKED_INPUTS[bits]
    codes = n * -(-k // inputs) * inputs * bits // 8
    return codes + _scale_bytes(spec, n, k) + _level_bytes(spec)


def _scale_bytes(spec: QuantSpec, n: int, k: int) -> int:
    size = SCALE_BYTES[spec.scale_dtype]
    if spec.is_low_rank:
        return spec.rank_for(n, k) * (n + k) * size
    scales = n * -(-k // spec.block)
    if spec.double_quant:
        return scales + _FLOAT32_BYTES * (-(-scales // _SCALES_PER_RUN) + 1)
    zeros = -(-scales * spec.bits_per_code // 8) if spec.scales == "affine" else 0
    return scales * size + zeros


def _level_bytes(spec: QuantSpec) -> int:
    """Levels are float32 and cost nothing where the codebook's name says them, as those of affine scales do."""
    if spec.scales == "affine":
        return 0
    codebook = spec.codebook
    if codebook is None:
        return _FLOAT32_BYTES << spec.bits_per_code
    if codebook.name in CODEBOOK_NAMES and named_codebook(codebook.name) == codebook:
        return 0
    return _FLOAT32_BYTES * len(codebook.levels)
