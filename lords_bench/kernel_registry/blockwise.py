"""The block-wise baselines and QLoRA: the same decoders with a scale per block, with and without a LoRA adapter."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lords_bench.errors import UsageError
from lords_bench.kernel_registry.kernel import Cost, kernel_module, no, yes
from lords_bench.prepared import forced_decoder

if TYPE_CHECKING:
    from lords_bench.kernels.blockwise.operands import BlockwiseOperands
    from lords_bench.kernels.common.ptx import Decoder
    from lords_bench.kernels.common.support import Support

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
        """In features."""
        return self.operands.k

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations that it was prepared for."""
        return self.operands.levels.dtype

    @property
    def device(self) -> torch.device:
        """Of every tensor."""
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
    operands = kernel_module("blockwise.operands").blockwise_operands(
        packed, scale_NG, levels_L, k=k, bits=bits, block=block, dtype=dtype, decoder=decoder, zero_NG=zero_NG
    )
    counters = torch.zeros(-(-operands.n // _ROWS_PER_COUNTER), dtype=torch.int32, device=operands.packed.device)
    return PreparedBlockwise(operands=operands, adapter=adapter, counters=counters)


def blockwise_supports(m: int, weight: PreparedBlockwise, dtype: torch.dtype) -> "Support":
    """Few tokens, and no adapter."""
    if weight.adapter is not None:
        return no("the weight has an adapter, which this kernel would leave out; use qlora_fused or qlora_as_peft")
    found: Support = kernel_module("blockwise.launch").supports(m, weight.operands, dtype)
    return found


def blockwise_launch(x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None, config: Any) -> Tensor:
    """Fused."""
    y_MN: Tensor = kernel_module("blockwise.launch").launch(
        x_MK, weight.operands, bias_N=bias_N, config=config, arrivals=weight.counters
    )
    return y_MN


def blockwise_gemm_supports(_m: int, weight: PreparedBlockwise, dtype: torch.dtype) -> "Support":
    """Any number of tokens, and no adapter."""
    if weight.adapter is not None:
        return no("the weight has an adapter, which this kernel would leave out; use qlora_fused or qlora_as_peft")
    found: Support = kernel_module("blockwise_gemm.launch").supports(weight.operands, dtype)
    return found


def blockwise_gemm_launch(x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None, config: Any) -> Tensor:
    """Fused, for many tokens."""
    y_MN: Tensor = kernel_module("blockwise_gemm.launch").launch(x_MK, weight.operands, bias_N=bias_N, config=config)
    return y_MN


def blockwise_dequantize_supports(_m: int, weight: PreparedBlockwise, dtype: torch.dtype) -> "Support":
    """Any number of tokens, and no adapter."""
    if weight.adapter is not None:
        return no("the weight has an adapter, which this kernel would leave out; use qlora_as_peft")
    return _dtype_supports(weight, dtype)


def blockwise_dequantize_launch(x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None, config: Any) -> Tensor:
    """W to memory, then a dense product."""
    w_NK = kernel_module("blockwise.launch").dequantize(weight.operands, x_MK.dtype, config=config)
    return torch.nn.functional.linear(x_MK, w_NK, bias_N)


def qlora_fused_supports(_m: int, weight: PreparedBlockwise, dtype: torch.dtype) -> "Support":
    """As the block-wise kernels, with an adapter."""
    if weight.adapter is None:
        return no("the weight has no adapter; use blockwise or blockwise_gemm")
    found: Support = kernel_module("blockwise_gemm.launch").supports(weight.operands, dtype)
    return found


def qlora_peft_supports(_m: int, weight: PreparedBlockwise, dtype: torch.dtype) -> "Support":
    """Any number of tokens, with an adapter."""
    if weight.adapter is None:
        return no("the weight has no adapter; use blockwise_dequantize_matmul")
    return _dtype_supports(weight, dtype)


def qlora_fused_launch(x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None, _config: Any) -> Tensor:
    """The fair form."""
    return _qlora("fused", x_MK, weight, bias_N)


def qlora_peft_launch(x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None, _config: Any) -> Tensor:
    """As PEFT runs it."""
    return _qlora("as_peft", x_MK, weight, bias_N)


def _qlora(form: str, x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None) -> Tensor:
    adapter = weight.adapter
    assert adapter is not None
    forward = getattr(kernel_module("qlora.launch"), form)
    y_MN: Tensor = forward(x_MK, weight.operands, adapter.a_RK, adapter.b_NR, scaling=adapter.scaling, bias_N=bias_N)
    return y_MN


def _dtype_supports(weight: PreparedBlockwise, dtype: torch.dtype) -> "Support":
    if dtype != weight.dtype:
        return no(f"activations are {dtype}, but the weight was prepared for {weight.dtype}; prepare it for {dtype}")
    return yes()


def blockwise_cost(m: int, weight: PreparedBlockwise, dtype: torch.dtype) -> Cost:
    """Codes, scales, zero points, adapter and x once, and the product with W alone, so that formats compare."""
    operands, adapter = weight.operands, weight.adapter
    factors = () if adapter is None else (adapter.a_RK, adapter.b_NR)
    tensors = (operands.packed, operands.scale_NG, *factors)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if operands.zero_NG is not None:
        stored += operands.zero_NG.numel() * operands.zero_NG.element_size()
    return Cost(bytes_moved=stored + m * weight.k * dtype.itemsize, flops=2 * m * weight.n * weight.k)
