"""Scale fields: two ways to store the scale S_NK of a quantized weight levels[codes_NK] * S_NK.

A block field stores one number per row and block of G inputs (N·K/G numbers); a low-rank field stores B_NR and A_RK
(R·(N+K) numbers). Both expand to the full S_NK, differentiably, and round to a storage dtype. A field that was rounded
to something else than the numbers of a dtype holds what is stored beside them (`storage.stored_field`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.reference.double_quant import DoubleQuantized
from lords_bench.reference.eight_bit import Int8Factors, LogScales
from lords_bench.reference.rounding import round_scales, round_to


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockField:
    """One scale per row and block of `block` consecutive inputs: S[n, k] = scale_NG[n, k // block].

    Attributes:
        scale_NG: N×G.
        block: inputs per scale.
        k: inputs, where the last block is partial; None where all are whole.
        low_NG: N×G, what code 0 stands for where a grid has zero points (`affine`); None where 0 is scaled to 0.
        stored: what is stored of the scales, where that is not their numbers.
    """

    scale_NG: Tensor
    block: int
    k: int | None = None
    low_NG: Tensor | None = None
    stored: LogScales | DoubleQuantized | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the expanded field."""
        return self.scale_NG.shape[0], self.k or self.scale_NG.shape[1] * self.block

    def expand(self) -> Tensor:
        """S_NK in the dtype of the stored scales."""
        return self.scale_NG.repeat_interleave(self.block, dim=1)[:, : self.k]

    def expand_low(self) -> Tensor | None:
        """What code 0 stands for, N×K; None where there are no zero points."""
        return None if self.low_NG is None else self.low_NG.repeat_interleave(self.block, dim=1)[:, : self.k]

    def scaled(self, factor: float) -> "BlockField":
        """The field whose expansion is `factor` times this one's; without zero points."""
        return BlockField(scale_NG=self.scale_NG * factor, block=self.block)

    def to_dtype(self, dtype: torch.dtype) -> "BlockField":
        """The field with its numbers rounded to `dtype`, kept in the present dtype.

        Raises:
            WeightError: a number is too large for `dtype`, or the scales are too small for it.
        """
        return BlockField(scale_NG=round_scales(self.scale_NG, dtype), block=self.block)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LowRankField:
    """A continuous scale of rank R: S_NK = b_NR @ a_RK (LoRDS, arXiv 2601.22716). It may be negative or zero."""

    b_NR: Tensor
    a_RK: Tensor
    stored: Int8Factors | None = None

    @property
    def rank(self) -> int:
        """Number of columns of B and rows of A."""
        return self.b_NR.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the expanded field."""
        return self.b_NR.shape[0], self.a_RK.shape[1]

    def expand(self) -> Tensor:
        """S_NK in the dtype of the stored factors."""
        return self.b_NR @ self.a_RK

    def scaled(self, factor: float) -> "LowRankField":
        """The field whose expansion is `factor` times this one's, the factor shared evenly by B and A."""
        root = abs(factor) ** 0.5
        sign = -1.0 if factor < 0 else 1.0
        return LowRankField(b_NR=self.b_NR * (sign * root), a_RK=self.a_RK * root)

    def to_dtype(self, dtype: torch.dtype) -> "LowRankField":
        """The field with its numbers rounded to `dtype`, kept in the present dtype.

        Raises:
            WeightError: a number is too large for `dtype`.
        """
        return LowRankField(b_NR=round_to(self.b_NR, dtype), a_RK=round_to(self.a_RK, dtype))


Field = BlockField | LowRankField
