"""Scales stored in 8 bits each: block scales by their logarithm, B and A of a low-rank scale as int8.

    block scales    a sign and seven bits: 0 is zero, 1 … 127 go from the lowest magnitude to the highest in even steps
                    of the logarithm; these two are the constants of the matrix. The relative error is the same for
                    small and large scales.
    B and A         int8 codes of -127 … 127 and one scale m per rank: b = code · m_r / 127, a likewise. A rank is first
                    brought to one largest magnitude in B and A, which its product does not see.

What they expand to is rounded to the dtype that a kernel reads, so that the reference and the kernels compute with the
same numbers. What was expanded is encoded to the same bits again: the constants are numbers that occur.

Why: half the bits for each number buy twice the rank, or blocks of half the size. Measured on the testbed at equal
stored bits, KL falls by 8 to 16 % for both (docs/log.md). GGUF's k-quants store block scales in 4 to 8 bits as well,
as integers times one number per 256 weights; a logarithm needs no such second level.

Letters beside the usual ones: C codes of magnitudes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.reference.rounding import round_to

SIGN = 128
LARGEST_CODE = 127

# Shares of the whole range of logarithms that are tried as the range of the codes. A few very small scales would make
# every step wide; they become the lowest magnitude, or zero, where that costs less.
RANGE_SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogScales:
    """Block scales as sign and logarithm.

    Attributes:
        scale_codes_NG: uint8; bit 7 is the sign.
        scale_range: the lowest and the highest magnitude, in the dtype that the scales expand to.
    """

    scale_codes_NG: Tensor
    scale_range: Tensor

    def expand(self) -> Tensor:
        """The scales (N×G) in the dtype of `scale_range`."""
        magnitudes_C = _magnitudes(self.scale_range)
        return torch.cat((magnitudes_C, -magnitudes_C))[self.scale_codes_NG.int()]

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        return {"scale_codes_NG": self.scale_codes_NG, "scale_range": self.scale_range}

    def to(self, device: torch.device | str) -> "LogScales":
        """The same scales on another device."""
        return LogScales(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Int8Factors:
    """B and A in int8.

    Attributes:
        b_codes_NR: int8.
        a_codes_RK: int8.
        rank_scale_R: largest magnitude of every rank, in the dtype that B and A expand to.
    """

    b_codes_NR: Tensor
    a_codes_RK: Tensor
    rank_scale_R: Tensor

    def expand(self) -> tuple[Tensor, Tensor]:
        """B_NR and A_RK in the dtype of `rank_scale_R`: code · m_r / 127, rounded once."""
        scale_R = self.rank_scale_R.to(torch.float64)
        b_NR = self.b_codes_NR.to(torch.float64) * scale_R / LARGEST_CODE
        a_RK = self.a_codes_RK.to(torch.float64) * scale_R.unsqueeze(1) / LARGEST_CODE
        return b_NR.to(self.rank_scale_R.dtype), a_RK.to(self.rank_scale_R.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name."""
        return {"b_codes_NR": self.b_codes_NR, "a_codes_RK": self.a_codes_RK, "rank_scale_R": self.rank_scale_R}

    def to(self, device: torch.device | str) -> "Int8Factors":
        """The same factors on another device."""
        return Int8Factors(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


@torch.no_grad()
def log_scales(scale_NG: Tensor, dtype: torch.dtype) -> LogScales:
    """Block scales in 8 bits each: the nearest of the magnitudes in `dtype`, and the sign.

    Of the ranges that `RANGE_SHARES` tries, the whole one among them, it is that of the least Σ (s - ŝ)².

    Args:
        scale_NG: finite, any float dtype and sign.
        dtype: that they expand to; it must hold them, see `rounding.round_scales`.
    """
    size_NG = scale_NG.to(torch.float64).abs()
    # Below the normal numbers of the dtype there are no even steps.
    present = size_NG[size_NG >= torch.finfo(dtype).tiny]
    if not present.numel():
        return LogScales(
            scale_codes_NG=torch.zeros_like(scale_NG, dtype=torch.uint8), scale_range=scale_NG.new_ones(2, dtype=dtype)
        )
    lowest, highest = present.aminmax()
    best, least = None, torch.inf
    for share in RANGE_SHARES:
        # A scale that occurs, so that its code does, and the same range is found again.
        bound = lowest if share == 1.0 else (highest * (lowest / highest) ** share).clamp_max(highest)
        start = present[present >= bound].amin()
        scale_range = torch.stack((start, highest)).to(dtype)
        magnitudes_C = _magnitudes(scale_range).to(torch.float64)
        codes_NG = torch.bucketize(size_NG, (magnitudes_C[1:] + magnitudes_C[:-1]) / 2, out_int32=True)
        # Of codes with one magnitude, where the dtype has no more, the first.
        codes_NG = torch.searchsorted(magnitudes_C, magnitudes_C[codes_NG], out_int32=True)
        loss = float((magnitudes_C[codes_NG] - size_NG).square().sum())
        if best is None or loss < least:
            codes_NG += SIGN * ((scale_NG < 0) & (codes_NG > 0))
            best, least = LogScales(scale_codes_NG=codes_NG.to(torch.uint8), scale_range=scale_range), loss
    assert best is not None
    return best


@torch.no_grad()
def int8_factors(b_NR: Tensor, a_RK: Tensor, dtype: torch.dtype) -> Int8Factors:
    """B and A in int8: every rank brought to one largest magnitude m in both, codes = round(127 · value / m).

    An element is off by at most m/254, beside the rounding to `dtype`.

    Raises:
        WeightError: a rank is too large for `dtype`.
    """
    size_R, ratio_R = _balance(b_NR, a_RK)
    scale_R = round_to(size_R, dtype)
    step_R = torch.where(scale_R > 0, scale_R / LARGEST_CODE, torch.inf)

    def codes(values: Tensor, step: Tensor) -> Tensor:
        return (values / step).round_().clamp_(-LARGEST_CODE, LARGEST_CODE).to(torch.int8)

    return Int8Factors(
        b_codes_NR=codes(b_NR.to(torch.float64) * ratio_R, step_R),
        a_codes_RK=codes(a_RK.to(torch.float64) / ratio_R.unsqueeze(1), step_R.unsqueeze(1)),
        rank_scale_R=scale_R.to(dtype),
    )


def trained_through_int8(b_NR: Tensor, a_RK: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What `int8_factors` expands to, in the dtype of B and A, with the gradients of the numbers before rounding.

    The straight-through estimator (Bengio et al., arXiv 1308.3432); what a rank is divided by is held constant.
    """
    stored_b_NR, stored_a_RK = int8_factors(b_NR.detach(), a_RK.detach(), dtype).expand()
    _, ratio_R = _balance(b_NR.detach(), a_RK.detach())
    ratio_R = ratio_R.to(b_NR.dtype)
    return _through(b_NR * ratio_R, stored_b_NR), _through(a_RK / ratio_R.unsqueeze(1), stored_a_RK)


def trained_through_logarithm(scale_NG: Tensor, dtype: torch.dtype) -> Tensor:
    """What `log_scales` expands to, in the dtype of the scales, with the gradient of the scales before rounding."""
    return _through(scale_NG, log_scales(scale_NG.detach(), dtype).expand())


def _through(exact: Tensor, rounded: Tensor) -> Tensor:
    passed: Tensor = _ThroughRounding.apply(exact, rounded.to(exact.dtype))  # type: ignore[no-untyped-call]
    return passed


class _ThroughRounding(torch.autograd.Function):
    """The second tensor, exactly, with the gradient going to the first."""

    @staticmethod
    def forward(_ctx: object, _exact: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _magnitudes(scale_range: Tensor) -> Tensor:
    """Zero and the 127 magnitudes, ascending, in the dtype of the range."""
    lowest, highest = scale_range.to(torch.float64).log2()
    steps_C = torch.arange(LARGEST_CODE, dtype=torch.float64, device=scale_range.device) / (LARGEST_CODE - 1)
    magnitudes_C = torch.exp2(lowest + (highest - lowest) * steps_C)
    return torch.nn.functional.pad(magnitudes_C, (1, 0)).to(scale_range.dtype)


def _balance(b_NR: Tensor, a_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Largest magnitude that every rank has once balanced, and what B is multiplied and A divided by; float64."""
    b_R, a_R = b_NR.to(torch.float64).abs().amax(dim=0), a_RK.to(torch.float64).abs().amax(dim=1)
    alive_R = (b_R > 0) & (a_R > 0)
    size_R = torch.where(alive_R, (b_R * a_R).sqrt(), torch.maximum(b_R, a_R))
    return size_R, torch.where(alive_R, a_R.sqrt() / b_R.sqrt(), 1.0)
