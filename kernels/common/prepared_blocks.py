"""`PreparedBlockwise`: a block-wise weight as its kernels take it, with or without a LoRA adapter."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lords_bench.errors import UsageError
from lords_bench.kernels.common.prepared import forced_decoder
from lords_bench.kernels.common.support import YES, Support, no

if TYPE_CHECKING:
    from lords_bench.kernels.common.block_operands import BlockwiseOperands
    from lords_bench.kernels.common.ptx import Decoder

# At least 64 rows and at most two tiles of tokens share a counter.
_ROWS_PER_COUNTER = 16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoraAdapter:
    """An additive adapter: W + scaling · B @ A, with A R×K and B N×R in the dtype of the activations."""

    a_RK: Tensor
    b_NR: Tensor
    scaling: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedBlockwise:
    """A block-wise weight ready for its kernels; with an adapter it is the weight of a QLoRA layer.

    Attributes:
        operands: codes, scales, zero points and levels as the kernels take them.
        adapter: None without.
        counters: of arrivals, zero between launches, so one stream at a time; None lets each launch make its own.
        memo: what callers derive from the weight once, so that a call derives nothing: the launch of an M bucket.
        n, k: out and in features.
        dtype: of the activations that it was prepared for.
    """

    operands: "BlockwiseOperands"
    adapter: LoraAdapter | None = None
    counters: Tensor | None = None
    memo: dict[Any, Any] = field(init=False, repr=False, default_factory=dict)

    @property
    def n(self) -> int:
        """Out features."""
        return self.operands.n

    @property
    def k(self) -> int:
        return self.operands.k

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations that it was prepared for."""
        return self.operands.levels.dtype

    @property
    def read_tensors(self) -> tuple[Tensor, ...]:
        """Codes, scales, zero points and adapter."""
        zeros = () if self.operands.zero_NG is None else (self.operands.zero_NG,)
        factors = () if self.adapter is None else (self.adapter.a_RK, self.adapter.b_NR)
        return (self.operands.packed, self.operands.scale_NG, *zeros, *factors)

    def fits(self, kind: str) -> Support:
        """Whether kernels of that kind take it: those of QLoRA with an adapter, those of blocks without."""
        if kind == "lords":
            return no("the weight is block-wise, not a LoRDS weight; use its own kernels")
        if self.adapter is not None and kind != "qlora":
            return no("the weight has an adapter, which this kernel would leave out; use one of QLoRA's")
        if self.adapter is None and kind == "qlora":
            return no("the weight has no adapter; use a block-wise kernel")
        return YES

    def takes_dtype(self, dtype: torch.dtype) -> Support:
        """Whether it was prepared for activations of that dtype."""
        if dtype != self.dtype:
            return no(f"activations are {dtype}, but the weight was prepared for {self.dtype}; prepare it for {dtype}")
        return YES

    @property
    def device(self) -> torch.device:
        return self.operands.packed.device


def prepare_blockwise(  # noqa: PLR0913  (the parts of a weight, as the kernel takes them)
    packed: Tensor,
    scale_NG: Tensor,
    levels_L: Tensor,
    *,
    k: int,
    bits: int,
    block: int,
    dtype: torch.dtype,
    zero_NG: Tensor | None = None,
    decoder: "Decoder | None" = None,
    adapter: LoraAdapter | None = None,
) -> PreparedBlockwise:
    """A block-wise weight prepared for activations of `dtype`; arguments as for `kernels.blockwise`.

    Args:
        packed: int16 (N, K blocks, planes, 16).
        scale_NG: one scale per row and block.
        levels_L: at most 2^bits levels.
        k: in features.
        bits: bits per code.
        block: inputs per scale.
        dtype: of the activations to come.
        zero_NG: zero points in units of the levels; rounded to `dtype`.
        decoder: None is the fastest that fits: the portable one for float32 and on AMD GPUs.
        adapter: its factors must be of `dtype`.

    Raises:
        UsageError: shapes or dtypes that do not fit together.
    """
    decoder = decoder or forced_decoder(dtype)
    if adapter is not None:
        shapes = tuple(adapter.b_NR.shape), tuple(adapter.a_RK.shape)
        if shapes[0] != (packed.shape[0], shapes[1][0]) or shapes[1][1] != k:
            raise UsageError(f"adapter B {shapes[0]} and A {shapes[1]} do not fit a {packed.shape[0]}×{k} weight")
        if {adapter.a_RK.dtype, adapter.b_NR.dtype} != {dtype}:
            raise UsageError(f"adapter is {adapter.a_RK.dtype} and {adapter.b_NR.dtype}; convert it to {dtype}")
    from lords_bench.kernels.common.block_operands import blockwise_operands

    operands = blockwise_operands(
        packed, scale_NG, levels_L, k=k, bits=bits, block=block, dtype=dtype, decoder=decoder, zero_NG=zero_NG
    )
    counters = torch.zeros(-(-operands.n // _ROWS_PER_COUNTER), dtype=torch.int32, device=operands.packed.device)
    return PreparedBlockwise(operands=operands, adapter=adapter, counters=counters)
