"""`PreparedWeight`: a LoRDS weight as the operators take it, made once from what is stored.

On a GPU it adds what kernels read besides the stored tensors: factors padded to a rank of 16, 32, 64 or 128, levels as
a decoder's table, A in the column order of the integer path, and the counters of the split-K reduction. On a CPU the
stored tensors suffice. It is a plain bundle of tensors: `torch.compile` and CUDA graphs see nothing else.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import is_compiled_on

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

# Decoders by number, because an operator's arguments are tensors and numbers; REFERENCE has no kernel.
DECODERS: tuple["Decoder", ...] = ("grid7", "table16", "uniform", "table")
REFERENCE = -1

MAX_KERNEL_RANK = 128
_ROWS_PER_COUNTER = 16


class StoredLords(Protocol):
    """The fields of `reference.weights.LordsWeight` that preparing needs."""

    @property
    def packed(self) -> Tensor:
        """int16 (N, K blocks, planes, 16)."""

    @property
    def b_NR(self) -> Tensor:
        """Factor B."""

    @property
    def a_RK(self) -> Tensor:
        """Factor A."""

    @property
    def levels_L(self) -> Tensor:
        """At most 2^bits levels."""

    @property
    def bits(self) -> int:
        """Bits per code."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class PreparedWeight:
    """One N×K weight ready for `ops.lords_matmul`.

    It may be used by one stream at a time: kernels count arrivals in `counters`, which are zero between launches.

    Attributes:
        packed: int16 (N, K blocks, planes, 16).
        b_NR, a_RK: factors; padded for kernels, so that gradients reach the stored ones through the padding.
        levels_L: 2^bits levels in float32.
        words, grid_bytes: the decoder's table, and the 7-bit grid levels of the portable integer path.
        a_columns: A in the column order of the integer path; None where there is none, or where A is trained.
        decoder: index in `DECODERS`, or `REFERENCE`.
        unit: what a decoded value is multiplied with to give the level.
        dtype: of the activations that it was prepared for; None where any will do.
        n, k: out and in features.
        device: of every tensor.
        memo: what callers derive from the weight once, so that a call derives nothing: kernels' operands, and the
            launch of each M bucket.
    """

    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    words: Tensor | None = None
    grid_bytes: Tensor | None = None
    a_columns: Tensor | None = None
    counters: Tensor | None = None
    bits: int
    decoder: int = REFERENCE
    unit: float = 1.0
    dtype: torch.dtype | None = None
    n: int = field(init=False)
    k: int = field(init=False)
    device: torch.device = field(init=False)
    memo: dict[Any, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Plain attributes: a call reads them, and a tensor's shape and device cost a tenth of a microsecond each.
        for name, value in (
            ("n", int(self.packed.shape[0])),
            ("k", int(self.a_RK.shape[1])),
            ("device", self.packed.device),
            ("memo", {}),
        ):
            object.__setattr__(self, name, value)

    def with_factors(self, b_NR: Tensor, a_RK: Tensor) -> "PreparedWeight":
        """The same codes with other factors, differentiable in them: one training step, or another adapter.

        Raises:
            UsageError: factors that do not fit the weight.
        """
        if b_NR.shape[0] != self.n or a_RK.shape[1] != self.k or b_NR.shape[1] != a_RK.shape[0]:
            raise UsageError(f"B {tuple(b_NR.shape)} and A {tuple(a_RK.shape)} do not fit a {self.n}×{self.k} weight")
        if self.decoder != REFERENCE:
            from lords_bench.kernels.common.operands import padded_rank

            extra = padded_rank(b_NR.shape[1]) - b_NR.shape[1]
            b_NR, a_RK = pad(b_NR, (0, extra)), pad(a_RK, (0, 0, 0, extra))
        return replace(self, b_NR=b_NR, a_RK=a_RK, a_columns=None)


def prepare(weight: StoredLords, dtype: torch.dtype, *, decoder: "Decoder | None" = None) -> PreparedWeight:
    """The weight ready for activations of `dtype`, on the device it lies on; differentiable in B and A.

    Args:
        weight: stored tensors, all on one device.
        dtype: of the activations to come.
        decoder: None is the fastest that fits on a GPU, and the reference elsewhere; naming one prepares for kernels on
            a CPU as well, which is Triton's interpreter.

    Raises:
        UsageError: no LoRDS weight, or tensors that do not fit together.
    """
    found: object = weight
    if not hasattr(found, "b_NR") or not hasattr(found, "levels_L"):
        raise UsageError(f"weight is a {type(found).__name__}; LoRDS products take a LordsWeight, see its matmul")
    levels_L = _padded_levels(weight.levels_L, weight.bits, weight.packed.device)
    no_kernels = decoder is None and not is_compiled_on(weight.packed.device)
    if no_kernels or weight.b_NR.shape[1] > MAX_KERNEL_RANK or dtype == torch.float64:
        return PreparedWeight(
            packed=weight.packed, b_NR=weight.b_NR, a_RK=weight.a_RK, levels_L=levels_L, bits=weight.bits
        )
    from lords_bench.kernels.common.operands import integer_tile_a, lords_operands

    operands = lords_operands(
        weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, k=weight.a_RK.shape[1], bits=weight.bits, dtype=dtype,
        decoder=decoder or forced_decoder(dtype),
    )  # fmt: skip
    levels = operands.levels
    integer_path = levels.integer_levels is not None and not weight.a_RK.requires_grad
    return PreparedWeight(
        packed=operands.packed,
        b_NR=operands.b_NR,
        a_RK=operands.a_RK,
        levels_L=levels_L,
        words=levels.words,
        grid_bytes=levels.integer_levels,
        a_columns=(
            integer_tile_a(operands.a_RK, k_blocks=operands.k_blocks, bits=weight.bits, decoder=levels.decoder)
            if integer_path
            else None
        ),
        counters=torch.zeros(4 * -(-operands.n // _ROWS_PER_COUNTER), dtype=torch.int32, device=operands.packed.device),
        bits=weight.bits,
        decoder=DECODERS.index(levels.decoder),
        unit=levels.unit,
        dtype=dtype,
    )


def forced_decoder(dtype: torch.dtype) -> "Decoder | None":
    """The decoder that activations of `dtype` and the GPU leave no choice about; None where the levels decide."""
    return "table" if dtype == torch.float32 or torch.version.hip is not None else None


def _padded_levels(levels_L: Tensor, bits: int, device: torch.device) -> Tensor:
    if levels_L.numel() > 1 << bits:
        raise UsageError(f"{levels_L.numel()} levels do not fit into {bits} bits; give at most {1 << bits}")
    padded = torch.zeros(1 << bits, dtype=torch.float32, device=device)
    padded[: levels_L.numel()] = levels_L
    return padded
