"""Block-wise weights for kernel tests, with their float64 meaning."""

from dataclasses import dataclass

import torch
from bounds import Magnitudes, error_bound
from hypothesis import strategies as st
from problems import LEVELS_OF_DECODER, levels_of

from lords_bench.kernels.common.block_operands import BlockwiseOperands, blockwise_operands
from lords_bench.kernels.common.layout import k_block
from lords_bench.reference.packing import pack_codes

SCALE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockProblem:
    """A block-wise weight W = (level - zero) · scale."""

    codes_NK: torch.Tensor
    levels_L: torch.Tensor
    scale_NG: torch.Tensor
    zero_NG: torch.Tensor | None
    bits: int
    block: int

    @property
    def n(self) -> int:
        return self.codes_NK.shape[0]

    @property
    def k(self) -> int:
        return self.codes_NK.shape[1]

    @property
    def weight_NK(self) -> torch.Tensor:
        """W in float64."""
        return (self._values_NK - self._zero_NK) * self._expanded(self.scale_NG)

    @property
    def magnitude_NK(self) -> torch.Tensor:
        """What roundings of a weight are relative to: (|level| + |zero|) · |scale|, in float64."""
        return (self._values_NK.abs() + self._zero_NK.abs()) * self._expanded(self.scale_NG).abs()

    @property
    def _values_NK(self) -> torch.Tensor:
        return self.levels_L.double()[self.codes_NK.long()]

    @property
    def _zero_NK(self) -> torch.Tensor:
        return torch.zeros(self.n, self.k).double() if self.zero_NG is None else self._expanded(self.zero_NG)

    def _expanded(self, numbers_NG: torch.Tensor) -> torch.Tensor:
        return numbers_NG.double().repeat_interleave(self.block, 1)[:, : self.k]

    def operands(self, dtype: torch.dtype, decoder: str) -> BlockwiseOperands:
        return blockwise_operands(
            pack_codes(self.codes_NK, self.bits), self.scale_NG, self.levels_L, k=self.k, bits=self.bits,
            block=self.block, dtype=dtype, decoder=decoder, zero_NG=self.zero_NG,
        )  # fmt: skip

    def bound(self, expected: torch.Tensor, x_MK: torch.Tensor, decoder: str, *, weight_roundings: int) -> torch.Tensor:
        """For a kernel that rounds a weight so often, besides its level in a table and its zero point.

        Non-finite inputs count as zero (their outputs are not compared).
        """
        x = torch.where(torch.isfinite(x_MK), x_MK, 0).double().abs()
        terms = x @ self.magnitude_NK.t()
        inputs = x.sum(1, keepdim=True).expand_as(terms)
        roundings = weight_roundings + (decoder in ("table", "table16")) + (self.zero_NG is not None)
        return error_bound(
            expected, Magnitudes(terms=terms, factors=terms, inputs=inputs), steps=self.k, rank=1, roundings=roundings,
            compute=x_MK.dtype, result=x_MK.dtype,
        )  # fmt: skip


def make_blocks(  # noqa: PLR0913 - a problem, flat
    *, n: int, k: int, bits: int, block: int, levels: str = "grid7", has_zero: bool = False, scale: str = "plain",
    scale_dtype: torch.dtype = torch.float16, seed: int = 0,
) -> BlockProblem:  # fmt: skip
    """A weight with scales of both signs that are `plain`, `tiny` (1e-3 times), or with `zero` rows."""
    generator = torch.Generator().manual_seed(seed)
    codes_NK = torch.randint(0, 1 << bits, (n, k), generator=generator, dtype=torch.uint8)
    levels_L = levels_of(levels, bits, generator)
    scale_NG = torch.randn(n, -(-k // block), generator=generator) * 0.1
    if scale == "tiny":
        scale_NG *= 1e-3
    elif scale == "zero":
        scale_NG[::3] = 0
    zero_NG = torch.rand(scale_NG.shape, generator=generator) - 0.5 if has_zero else None
    return BlockProblem(
        codes_NK=codes_NK, levels_L=levels_L, scale_NG=scale_NG.to(scale_dtype), zero_NG=zero_NG, bits=bits, block=block
    )


@st.composite
def block_problems(draw: st.DrawFn) -> tuple[BlockProblem, str]:
    """A block-wise weight and a decoder that takes its levels."""
    decoder = draw(st.sampled_from(("grid7", "table16", "uniform", "table")))
    bits = draw(st.sampled_from((4, 3, 2)))
    problem = make_blocks(
        n=draw(st.integers(1, 130)),
        k=draw(st.integers(1, 600)),
        bits=bits,
        block=draw(st.sampled_from((16, 32, 64, 128, k_block(bits), 2 * k_block(bits)))),
        levels=draw(st.sampled_from(LEVELS_OF_DECODER[decoder])),
        has_zero=draw(st.booleans()),
        scale=draw(st.sampled_from(("plain", "tiny", "zero"))),
        scale_dtype=draw(st.sampled_from(SCALE_DTYPES)),
        seed=draw(st.integers(0, 1000)),
    )
    return problem, decoder
