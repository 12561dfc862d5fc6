"""What is stored: quantized weights as plain dataclasses of packed tensors.

    LordsWeight      levels[codes] · (B @ A)
    BlockwiseWeight  levels[codes] · scale of the block
    AffineWeight     (code - zero of the block) · scale of the block

Codes are packed as `packing` lays them out, and stored without the padding of a partial last block. Scales lie in the
dtype that they are computed with, or are stored in 8 bits each (`eight_bit`, `double_quant`). Levels of a codebook
known by name cost nothing; levels of your own or learned ones are a stored float32 tensor and are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from lords_bench.quant import CODEBOOK_NAMES, Codebook, QuantSpec, ScaleDtype, named_codebook
from lords_bench.reference import engine
from lords_bench.reference.affine import dequantize_affine
from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.double_quant import DoubleQuantized
from lords_bench.reference.eight_bit import Int8Factors, LogScales
from lords_bench.reference.fields import BlockField, Field, LowRankField
from lords_bench.reference.packing import packed_codes, stored_codes, unpack_codes, unpack_stream
from lords_bench.reference.panels import compute_dtype

STORAGE_DTYPES: MappingProxyType[ScaleDtype, torch.dtype] = MappingProxyType(
    {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
)


class QuantizedWeight(Protocol):
    """A linear weight W_NK of low precision, without its bias."""

    @property
    def spec(self) -> QuantSpec:
        """What was asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K): out features, in features."""

    @property
    def bits_per_weight(self) -> float:
        """Bytes of all stored tensors, padding and tables included, times 8 / (N·K)."""

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""

    def codes(self) -> Tensor:
        """The unpacked codes: uint8, N×K."""

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W_NK in `dtype`; computed in float64 if that is float64, else in float32 and rounded once."""

    def to(self, device: torch.device | str) -> Self:
        """The same weight with its tensors on another device."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class LordsWeight:
    """A weight whose scale is a product: packed codes, B_NR and A_RK (arXiv 2601.22716).

    Attributes:
        spec: what was asked for.
        shape: (N, K).
        packed: int16, `packing.packed_shape(N, K, bits)`.
        b_NR: N×R, the spec's dtype; what kernels read.
        a_RK: R×K, the same.
        levels_L: stored levels (float32); None where `spec.codebook` is known by name.
        int8: what is stored of B and A, which are its expansion; None where they are stored themselves.
    """

    spec: QuantSpec
    shape: tuple[int, int]
    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor | None
    int8: Int8Factors | None = None

    @property
    def rank(self) -> int:
        return self.b_NR.shape[1]

    @property
    def bits_per_weight(self) -> float:
        """Bytes of all stored tensors times 8 / (N·K)."""
        return _bits_per_weight(self)

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        factors = {"b_NR": self.b_NR, "a_RK": self.a_RK} if self.int8 is None else self.int8.tensors()
        return {"packed": _stored_codes(self), **factors, **_stored_levels(self.levels_L)}

    def field(self, dtype: torch.dtype = torch.float32) -> LowRankField:
        """The scale S_NK = B @ A as a field of that dtype."""
        return LowRankField(b_NR=self.b_NR.to(dtype), a_RK=self.a_RK.to(dtype))

    def levels(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """`levels_L`, whether stored or known by name."""
        return _levels(self.spec, self.levels_L, dtype, self.packed.device)

    def codes(self) -> Tensor:
        """The unpacked codes: uint8, N×K."""
        return unpack_codes(self.packed, self.spec.bits_per_code, self.shape[1])

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W_NK = levels[codes] · (B @ A) in `dtype`."""
        working = compute_dtype(dtype)
        return _product(self.levels(working), self.codes(), self.field(working)).to(dtype)

    def matmul(self, x: Tensor, bias_N: Tensor | None = None) -> Tensor:
        """Y = x @ Wᵀ + bias, differentiable in x, B, A and bias; see `reference.engine` for what computes it.

        Args:
            x: (…, K) on the device of the weight, any float dtype.
            bias_N: (N,).

        Returns:
            (…, N) in the dtype of x.

        Raises:
            UsageError: x, weight and bias that do not fit together, or a GPU without kernels.
        """
        return engine.product(x, self, bias_N)

    def to(self, device: torch.device | str) -> "LordsWeight":
        """The same weight with its tensors on another device."""
        return _moved(self, device)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockwiseWeight:
    """A weight with one scale per row and block of `spec.block` inputs.

    Attributes:
        spec: what was asked for.
        shape: (N, K).
        packed: int16, `packing.packed_shape(N, K, bits)`.
        scale_NG: N×⌈K/block⌉, storage dtype, or 8-bit codes of the scales; `scales()` gives numbers either way.
        levels_L: stored levels (float32); None where `spec.codebook` is known by name.
    """

    spec: QuantSpec
    shape: tuple[int, int]
    packed: Tensor
    scale_NG: Tensor | DoubleQuantized | LogScales
    levels_L: Tensor | None

    @property
    def bits_per_weight(self) -> float:
        """Bytes of all stored tensors times 8 / (N·K)."""
        return _bits_per_weight(self)

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        return {"packed": _stored_codes(self), **_stored_scales(self.scale_NG), **_stored_levels(self.levels_L)}

    def scales(self) -> Tensor:
        """The block scales (N×G) in the dtype that they are computed with, whatever is stored: what kernels read."""
        return _expanded(self.scale_NG)

    def field(self, dtype: torch.dtype = torch.float32) -> BlockField:
        """The block scales as a field of that dtype."""
        return BlockField(scale_NG=self.scales().to(dtype), block=self.spec.block, k=self.shape[1])

    def levels(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """`levels_L`, whether stored or known by name."""
        return _levels(self.spec, self.levels_L, dtype, self.packed.device)

    def codes(self) -> Tensor:
        """The unpacked codes: uint8, N×K."""
        return unpack_codes(self.packed, self.spec.bits_per_code, self.shape[1])

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W_NK = levels[codes] · scale of the block, in `dtype`."""
        working = compute_dtype(dtype)
        return _product(self.levels(working), self.codes(), self.field(working)).to(dtype)

    def to(self, device: torch.device | str) -> "BlockwiseWeight":
        """The same weight with its tensors on another device."""
        return _moved(self, device)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AffineWeight:
    """A weight of integer codes with a scale and a zero point per row and block of `spec.block` inputs.

    Attributes:
        spec: what was asked for.
        shape: (N, K).
        packed: int16, `packing.packed_shape(N, K, bits)`.
        scale_NG: N×⌈K/block⌉, storage dtype, or 8-bit codes of the scales; `scales()` gives numbers either way.
        packed_zeros: uint8, the zero points of `bits` bits each as `packing.pack_stream` lays them out.
    """

    spec: QuantSpec
    shape: tuple[int, int]
    packed: Tensor
    scale_NG: Tensor | LogScales
    packed_zeros: Tensor

    @property
    def bits_per_weight(self) -> float:
        """Bytes of all stored tensors times 8 / (N·K)."""
        return _bits_per_weight(self)

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        return {"packed": _stored_codes(self), **_stored_scales(self.scale_NG), "packed_zeros": self.packed_zeros}

    def scales(self) -> Tensor:
        """The block scales (N×G) in the dtype that they are computed with, whatever is stored: what kernels read."""
        return _expanded(self.scale_NG)

    def codes(self) -> Tensor:
        """The unpacked codes: uint8, N×K."""
        return unpack_codes(self.packed, self.spec.bits_per_code, self.shape[1])

    def zeros(self) -> Tensor:
        """The unpacked zero points: uint8, N×(K/block)."""
        shape = self.shape[0], -(-self.shape[1] // self.spec.block)
        return unpack_stream(self.packed_zeros, self.spec.bits_per_code, shape[0] * shape[1]).view(shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W_NK = (code - zero) · scale, in `dtype`."""
        scale_NG = self.scales().to(compute_dtype(dtype))
        return dequantize_affine(self.codes(), scale_NG, self.zeros(), block=self.spec.block).to(dtype)

    def to(self, device: torch.device | str) -> "AffineWeight":
        """The same weight with its tensors on another device."""
        return _moved(self, device)


def weight_from_tensors(spec: QuantSpec, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> QuantizedWeight:
    """The weight whose `tensors()` these are; nothing is checked."""
    packed = packed_codes(tensors["packed"], spec.bits_per_code, shape[1])
    levels_L = tensors.get("levels_L")
    if spec.is_low_rank:
        int8 = None
        if spec.scale_bits is not None:
            int8 = Int8Factors(**{name: tensors[name] for name in ("b_codes_NR", "a_codes_RK", "rank_scale_R")})
        b_NR, a_RK = (tensors["b_NR"], tensors["a_RK"]) if int8 is None else int8.expand()
        return LordsWeight(spec=spec, shape=shape, packed=packed, b_NR=b_NR, a_RK=a_RK, levels_L=levels_L, int8=int8)
    scales: Tensor | LogScales
    if spec.double_quant:
        double = DoubleQuantized(**{name: tensors[name] for name in ("scale_codes_NG", "run_absmax", "mean")})
        return BlockwiseWeight(spec=spec, shape=shape, packed=packed, scale_NG=double, levels_L=levels_L)
    if spec.scale_bits is None:
        scales = tensors["scale_NG"]
    else:
        scales = LogScales(scale_codes_NG=tensors["scale_codes_NG"], scale_range=tensors["scale_range"])
    if spec.scales == "affine":
        return AffineWeight(
            spec=spec, shape=shape, packed=packed, scale_NG=scales, packed_zeros=tensors["packed_zeros"]
        )
    return BlockwiseWeight(spec=spec, shape=shape, packed=packed, scale_NG=scales, levels_L=levels_L)


def needs_stored_levels(spec: QuantSpec) -> bool:
    """Whether the levels are not known from a codebook's name alone: learned, or a `Codebook` of the user's own."""
    return spec.codebook is None or not _is_known(spec.codebook)


def _is_known(codebook: Codebook) -> bool:
    return codebook.name in CODEBOOK_NAMES and named_codebook(codebook.name) == codebook


def _levels(spec: QuantSpec, stored_L: Tensor | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    if stored_L is not None:
        return stored_L.to(dtype)
    assert spec.codebook is not None
    return levels_tensor(spec.codebook, dtype=dtype, device=device)


def _stored_codes(weight: LordsWeight | BlockwiseWeight | AffineWeight) -> Tensor:
    return stored_codes(weight.packed, weight.spec.bits_per_code, weight.shape[1])


def _stored_scales(scale_NG: Tensor | DoubleQuantized | LogScales) -> dict[str, Tensor]:
    return {"scale_NG": scale_NG} if isinstance(scale_NG, Tensor) else scale_NG.tensors()


def _expanded(scale_NG: Tensor | DoubleQuantized | LogScales) -> Tensor:
    return scale_NG if isinstance(scale_NG, Tensor) else scale_NG.expand()


def _stored_levels(levels_L: Tensor | None) -> dict[str, Tensor]:
    return {} if levels_L is None else {"levels_L": levels_L}


def _product(levels_L: Tensor, codes_NK: Tensor, field: Field) -> Tensor:
    return levels_L[codes_NK.int()] * field.expand()


def _bits_per_weight(weight: QuantizedWeight) -> float:
    n, k = weight.shape
    stored_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weight.tensors().values())
    return stored_bytes * 8 / (n * k)


AnyWeight = TypeVar("AnyWeight", LordsWeight, BlockwiseWeight, AffineWeight)


def _moved(weight: AnyWeight, device: torch.device | str) -> AnyWeight:
    """A copy whose tensors, nested ones included, lie on `device`."""
    moved: dict[str, Any] = {}
    for field in fields(weight):
        value = getattr(weight, field.name)
        if isinstance(value, Tensor | DoubleQuantized | LogScales | Int8Factors):
            moved[field.name] = value.to(device)
    return replace(weight, **moved)
