"""Scale fields: two ways to store the scale S_NK of a quantized weight levels[codes_NK] * S_NK.

A block field stores one number per row and block of G inputs (N·K/G numbers); a low-rank field stores B_NR and A_RK
(R·(N+K) numbers). Both expand to the full S_NK, differentiably, and round to a storage dtype.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.errors import WeightError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockField:
    """One scale per row and block of `block` consecutive inputs: S[n, k] = scale_NG[n, k // block]."""

    scale_NG: Tensor
    block: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the expanded field."""
        return self.scale_NG.shape[0], self.scale_NG.shape[1] * self.block

    def expand(self) -> Tensor:
        """S_NK in the dtype of the stored scales."""
        return self.scale_NG.repeat_interleave(self.block, dim=1)

    def scaled(self, factor: float) -> "BlockField":
        """The field whose expansion is `factor` times this one's."""
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

# A rounding loses 0.05 % in float16 and 0.4 % in bfloat16. A loss above 1 % of all scales together means that they, or
# their factors, fell below the normal numbers of the dtype.
LARGEST_ROUNDING_LOSS = 1e-2


def round_scales(scale_NG: Tensor, dtype: torch.dtype) -> Tensor:
    """Block scales rounded to the values of `dtype`, in their own dtype.

    Raises:
        WeightError: a scale is too large for `dtype`, or so much is lost below its smallest numbers that the weight
            would be spoilt.
    """
    rounded_NG = round_to(scale_NG, dtype)
    # In units of the largest scale: the squares of small numbers would vanish.
    largest = scale_NG.abs().max()
    unit = torch.where(largest > 0, largest, torch.ones_like(largest))
    if bool(((rounded_NG - scale_NG) / unit).norm() > LARGEST_ROUNDING_LOSS * (scale_NG / unit).norm()):
        raise too_small_error("scales", float(largest), dtype)
    return rounded_NG


def too_small_error(name: str, largest: float, dtype: torch.dtype) -> WeightError:
    """The refusal of numbers that `dtype` cannot hold, because they lie below its normal ones."""
    stored = str(dtype).removeprefix("torch.")
    return WeightError(
        f"{name} of at most {largest:.3g} are too small for {stored}; use scale_dtype='bfloat16' or 'float32'"
    )


def round_to(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` rounded to the values of `dtype`, in its own dtype.

    Raises:
        WeightError: a finite value becomes infinite, that is, it is too large for `dtype`.
    """
    rounded = tensor.to(dtype).to(tensor.dtype)
    if not bool(torch.isfinite(rounded).all()):
        name = str(dtype).removeprefix("torch.")
        largest = float(tensor.detach().abs().max())
        raise WeightError(f"scale {largest:.3g} does not fit {name}; use scale_dtype='bfloat16' or 'float32'")
    return rounded
