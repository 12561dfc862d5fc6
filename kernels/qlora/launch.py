"""QLoRA forward: y = x Wᵀ + scaling · (x Aᵀ) Bᵀ, in two forms, by the block-wise kernel and torch matmuls."""

import torch

from lords_bench.kernels.blockwise import launch as blockwise
from lords_bench.kernels.blockwise.operands import BlockwiseOperands
from lords_bench.kernels.blockwise.space import FEW_TOKENS
from lords_bench.kernels.blockwise_gemm import launch as blockwise_gemm


def fused(
    x_MK: torch.Tensor,
    operands: BlockwiseOperands,
    lora_a_RK: torch.Tensor,
    lora_b_NR: torch.Tensor,
    *,
    scaling: float,
    bias_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """The fair form: a fused block-wise kernel, then the adapter added to its result by one `addmm`.

    Three launches; x is read twice and y twice. `scaling` is α/r, folded into the small product.
    """
    product = blockwise.launch if x_MK.shape[0] <= FEW_TOKENS else blockwise_gemm.launch
    y_MN = product(x_MK, operands, bias_N=bias_N)
    return torch.addmm(y_MN, x_MK @ lora_a_RK.t(), lora_b_NR.t(), alpha=scaling)


def as_peft(
    x_MK: torch.Tensor,
    operands: BlockwiseOperands,
    lora_a_RK: torch.Tensor,
    lora_b_NR: torch.Tensor,
    *,
    scaling: float,
    bias_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """The order of operations of PEFT's LoRA layer on a weight that is dequantized for a dense matmul.

    Base layer, then `result + lora_B(lora_A(x)) * scaling`, each step a launch with its own rounding.
    """
    base_MN = torch.nn.functional.linear(x_MK, blockwise.dequantize(operands, x_MK.dtype), bias_N)
    adapter_MN = torch.nn.functional.linear(torch.nn.functional.linear(x_MK, lora_a_RK), lora_b_NR)
    return base_MN + adapter_MN * scaling
