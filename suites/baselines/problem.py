"""One problem of the latency suite as tensors: weights of the wanted format, activations, and what a right result is.

Weights are Gaussian and quantized by each format's own rule, so that codes have the distribution that real ones have
(power, and with it the clock, depends on the data). LoRDS factors are not fitted: S = B·A is positive and varies
smoothly, codes are the nearest levels of W/S. Time does not depend on how well a format approximates W.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lords_bench.quant import QuantSpec, named_codebook
from lords_bench.records.latency import LatencyCase
from lords_bench.reference.codebooks import assign_nearest, levels_tensor
from lords_bench.reference.error_bounds import Magnitudes, error_bound, in_units_of_bound
from lords_bench.reference.methods import quantize
from lords_bench.reference.packing import pack_codes
from lords_bench.reference.weights import AffineWeight, BlockwiseWeight

if TYPE_CHECKING:
    from lords_bench.records.latency import ConfigOrigin, Facts

# A Gaussian weight of K = 4096 inputs of a trained model has about this standard deviation.
WEIGHT_STD = 0.02
# Levels reach ±1 and a block of 64 Gaussian weights reaches 2.6 standard deviations.
SCALE_STDS = 2.6


# x_MK in float64 to y_MN in float64, and how far each element of a right result may lie from it.
Expected = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Way:
    """A way to compute y_MN = x_MK @ W_NKᵀ, built for one problem on its device.

    Attributes:
        kernel: what runs, in words that name the code.
        operands: the tensors it reads besides x, in any nest of objects; copied once per buffer set.
        apply: (operands, x_MK) to y_MN. Waits for nothing, leaves both as they were.
        expected: what a right result is, from the format's own tensors and by other code than `apply`'s.
        stored_bytes: of the format's tensors, padding and tables included.
        config: of the kernel, as (name, value) pairs; empty where it has none or a library's is not known.
        config_origin: where it comes from.
    """

    kernel: str
    operands: Any
    apply: Callable[[Any, Tensor], Tensor]
    expected: Expected
    stored_bytes: int
    config: "Facts" = ()
    config_origin: "ConfigOrigin | None" = None


def expected_of(
    weight_NK: Callable[[], Tensor],
    *,
    result: torch.dtype,
    roundings: int,
    compute: torch.dtype,
    extra_MN: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
) -> Expected:
    """`Way.expected` for a weight whose scales are read, not computed.

    Args:
        weight_NK: W in float64.
        result: dtype of y.
        roundings: how often a term x·w is rounded to `compute` before or while it is summed in fp32.
        compute: dtype of those roundings.
        extra_MN: x to (what is added to x @ Wᵀ, its magnitudes Σ|terms|), both in float64.
    """

    def expected(x_MK: Tensor) -> tuple[Tensor, Tensor]:
        w_NK = weight_NK()
        y_MN, terms_MN = x_MK @ w_NK.t(), x_MK.abs() @ w_NK.abs().t()
        if extra_MN is not None:
            added_MN, added_terms_MN = extra_MN(x_MK)
            y_MN, terms_MN = y_MN + added_MN, terms_MN + added_terms_MN
        inputs = x_MK.abs().sum(1, keepdim=True).expand_as(y_MN)
        magnitudes = Magnitudes(terms=terms_MN, factors=terms_MN, inputs=inputs)
        steps = x_MK.shape[1]
        bound_MN = error_bound(
            y_MN, magnitudes, steps=steps, rank=0, roundings=roundings, compute=compute, result=result
        )
        return y_MN, bound_MN

    return expected


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LordsTensors:
    """A LoRDS weight as `prepare` takes it, with its unpacked codes."""

    codes_NK: Tensor
    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    bits: int


class LayerProblem:
    """Tensors of one case on one device; each is made when it is first asked for, and kept.

    Args:
        case: sizes and format.
        device: where the tensors live.
        dtype: of activations and of the dense weight.
        seed: of all random numbers.
    """

    def __init__(self, case: LatencyCase, *, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        self.case = case
        self.device = device
        self.dtype = dtype
        self._generator = torch.Generator(device).manual_seed(seed)

    def draw_x(self) -> Tensor:
        """Fresh activations, M×K, another draw every time."""
        shape = (self.case.m, self.case.k)
        return torch.randn(shape, generator=self._generator, device=self.device).to(self.dtype)

    def draw_adapter(self) -> tuple[Tensor, Tensor]:
        """LoRA factors (r×K, N×r) at LoRDS' rank, hence with as many trainable numbers as its B and A."""
        rank = self.case.rank
        a_RK = torch.randn(rank, self.case.k, generator=self._generator, device=self.device) / self.case.k**0.5
        b_NR = torch.randn(self.case.n, rank, generator=self._generator, device=self.device) * WEIGHT_STD
        return a_RK.to(self.dtype), b_NR.to(self.dtype)

    @cached_property
    def weight_NK(self) -> Tensor:
        """The dense weight in `dtype`."""
        shape = (self.case.n, self.case.k)
        return (torch.randn(shape, generator=self._generator, device=self.device) * WEIGHT_STD).to(self.dtype)

    @cached_property
    def blocks(self) -> BlockwiseWeight:
        """NormalFloat blocks by largest magnitude, levels on the 7-bit grid as LoRDS has them: the same decoder."""
        bits = self.case.bits
        spec = QuantSpec(method=f"nf{bits}", bits=bits, block=self.case.block, levels=f"nf{bits}-grid7")
        weight = quantize(self.weight_NK, spec)
        assert isinstance(weight, BlockwiseWeight)
        return weight

    @cached_property
    def integers(self) -> AffineWeight:
        """Integer groups with a zero point."""
        weight = quantize(self.weight_NK, QuantSpec(method="int-rtn", bits=self.case.bits, block=self.case.block))
        assert isinstance(weight, AffineWeight)
        return weight

    @cached_property
    def lords(self) -> LordsTensors:
        """LoRDS at parity rank: levels on the 7-bit grid, factors in fp16, codes nearest to W/S."""
        case, rank = self.case, self.case.rank
        levels_L = levels_tensor(named_codebook(f"nf{case.bits}-grid7"), device=self.device)
        spread_NR = 1 + 0.2 * torch.randn(case.n, rank, generator=self._generator, device=self.device)
        spread_RK = 1 + 0.2 * torch.randn(rank, case.k, generator=self._generator, device=self.device)
        b_NR = (spread_NR * (SCALE_STDS * WEIGHT_STD / rank) ** 0.5).half()
        a_RK = (spread_RK * (SCALE_STDS * WEIGHT_STD / rank) ** 0.5).half()
        codes_NK = assign_nearest(self.weight_NK.float(), b_NR.float() @ a_RK.float(), levels_L)
        return LordsTensors(
            codes_NK=codes_NK, packed=pack_codes(codes_NK, case.bits), b_NR=b_NR, a_RK=a_RK, levels_L=levels_L,
            bits=case.bits,
        )  # fmt: skip


# Rows of x whose results are compared with float64 where M is larger; the others must be finite.
CHECKED_ROWS = 256


def worst_error(way: Way, x_MK: Tensor, y_MN: Tensor) -> float:
    """Largest |y − float64| in units of its bound over the checked rows; infinity where a result is not finite."""
    if not bool(torch.isfinite(y_MN).all()):
        return float("inf")
    rows = torch.linspace(0, x_MK.shape[0] - 1, min(x_MK.shape[0], CHECKED_ROWS), device=x_MK.device).round().long()
    expected_MN, bound_MN = way.expected(x_MK[rows].double())
    return float(in_units_of_bound(y_MN[rows], expected_MN, bound_MN).max())
