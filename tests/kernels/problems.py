"""Problems for kernel tests: small LoRDS weights and activations with everything that has broken kernels before."""

from dataclasses import dataclass, replace

import torch
from bounds import Magnitudes
from hypothesis import strategies as st

from lords_bench.kernels.common.operands import LordsOperands, lords_operands
from lords_bench.quant import named_codebook
from lords_bench.reference.packing import pack_codes

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Problem:
    """A LoRDS weight with its float64 meaning."""

    codes_NK: torch.Tensor
    levels_L: torch.Tensor
    b_NR: torch.Tensor
    a_RK: torch.Tensor
    bits: int

    @property
    def n(self) -> int:
        return self.codes_NK.shape[0]

    @property
    def k(self) -> int:
        return self.codes_NK.shape[1]

    @property
    def rank(self) -> int:
        return self.b_NR.shape[1]

    @property
    def values_NK(self) -> torch.Tensor:
        """levels[codes] in float64."""
        return self.levels_L.double()[self.codes_NK.long()]

    @property
    def weight_NK(self) -> torch.Tensor:
        """W in float64."""
        return self.values_NK * (self.b_NR.double() @ self.a_RK.double())

    def operands(self, dtype: torch.dtype, decoder: str) -> LordsOperands:
        return lords_operands(
            pack_codes(self.codes_NK, self.bits), self.b_NR, self.a_RK, self.levels_L,
            k=self.k, bits=self.bits, dtype=dtype, decoder=decoder,
        )  # fmt: skip

    def magnitudes(self, x_MK: torch.Tensor) -> Magnitudes:
        """Σ of absolute values for x @ W^T; non-finite inputs count as zero (their outputs are not compared)."""
        x = torch.where(torch.isfinite(x_MK), x_MK, 0).double().abs()
        values = self.values_NK.abs()
        scale = (self.b_NR.double() @ self.a_RK.double()).abs()
        factor_scale = self.b_NR.double().abs() @ self.a_RK.double().abs()
        inputs = x.sum(1, keepdim=True).expand(-1, self.n)
        return Magnitudes(terms=x @ (values * scale).t(), factors=x @ (values * factor_scale).t(), inputs=inputs)


def levels_of(kind: str, bits: int, generator: torch.Generator) -> torch.Tensor:
    """Levels of a kind that fits a decoder: on the 7-bit grid, uniform integers, or anything."""
    if kind == "grid7":
        return torch.tensor(named_codebook(f"nf{bits}-grid7").levels)
    if kind == "uniform":
        return torch.tensor(named_codebook(f"int{bits}").levels)
    return torch.sort(torch.rand(1 << bits, generator=generator) * 2 - 1).values


def make_problem(
    *, n: int, k: int, rank: int, bits: int, levels: str = "grid7", scale: str = "plain",
    scale_dtype: torch.dtype = torch.float16, seed: int = 0,
) -> Problem:  # fmt: skip
    """A weight with scales that are `plain`, `tiny` (1e-3 times), with `outlier` inputs (1000 times) or `zero` rows.

    Every kind has positive and negative scales.
    """
    generator = torch.Generator().manual_seed(seed)
    b_NR = torch.randn(n, rank, generator=generator) * 0.3
    a_RK = torch.randn(rank, k, generator=generator) * 0.3
    if scale == "tiny":
        a_RK *= 1e-3
    elif scale == "outlier":
        a_RK[:, ::7] *= 30
    elif scale == "zero":
        b_NR[::3] = 0
    codes_NK = torch.randint(0, 1 << bits, (n, k), generator=generator, dtype=torch.uint8)
    return Problem(
        codes_NK=codes_NK, levels_L=levels_of(levels, bits, generator), b_NR=b_NR.to(scale_dtype),
        a_RK=a_RK.to(scale_dtype), bits=bits,
    )  # fmt: skip


def make_x(
    m: int, k: int, dtype: torch.dtype, *, outlier: bool = False, layout: str = "plain", seed: int = 0
) -> torch.Tensor:
    """Activations; `outlier` multiplies one channel by 1000; `layout` plain, `rows` (padded rows), `transposed`."""
    generator = torch.Generator().manual_seed(seed + 1)
    x_MK = torch.randn(m, k, generator=generator)
    if outlier:
        x_MK[:, k // 2] *= 1000
    x_MK = x_MK.to(dtype)
    if layout == "rows":
        wide = torch.full((m, k + 5), float("nan"), dtype=dtype)
        wide[:, :k] = x_MK
        return wide[:, :k]
    return x_MK.t().contiguous().t() if layout == "transposed" else x_MK


LEVELS_OF_DECODER = {
    "grid7": ("grid7",),
    "uniform": ("uniform",),
    "table16": ("grid7", "uniform", "learned"),
    "table": ("grid7", "uniform", "learned"),
}


RANKS = (1, 2, 5, 16, 17, 24, 64, 99)


@st.composite
def problems(
    draw: st.DrawFn, *, decoders: tuple[str, ...], max_k: int = 600, max_n: int = 130, max_rank: int = 128
) -> tuple[Problem, str]:
    """A problem and a decoder that takes its levels."""
    decoder = draw(st.sampled_from(decoders))
    problem = make_problem(
        n=draw(st.integers(1, max_n)),
        k=draw(st.integers(1, max_k)),
        rank=draw(st.sampled_from([rank for rank in RANKS if rank <= max_rank])),
        bits=draw(st.sampled_from((4, 3, 2))),
        levels=draw(st.sampled_from(LEVELS_OF_DECODER[decoder])),
        scale=draw(st.sampled_from(("plain", "tiny", "outlier", "zero"))),
        scale_dtype=draw(st.sampled_from((torch.float16, torch.bfloat16))),
        seed=draw(st.integers(0, 2**16)),
    )
    return problem, decoder


def dtype_for(decoder: str) -> st.SearchStrategy[torch.dtype]:
    """Compute dtypes of a decoder: float32 only through the portable one."""
    return st.sampled_from(DTYPES if decoder == "table" else DTYPES[:2])


def with_zero_padding_of_rank(problem: Problem, extra: int) -> Problem:
    """The same weight with `extra` ranks of zeros."""
    return replace(
        problem,
        b_NR=torch.nn.functional.pad(problem.b_NR, (0, extra)),
        a_RK=torch.nn.functional.pad(problem.a_RK, (0, 0, 0, extra)),
    )
