"""QLoRA forward: y = x Wᵀ + scaling · (x Aᵀ) Bᵀ, in two forms, by the block-wise kernel and torch matmuls."""

import torch

from lords_bench.kernels.blockwise import launch as blockwise
from lords_bench.kernels.blockwise.operands import BlockwiseOperands
from lords_bench.kernels.blockwise.space import FEW_TOKENS
from lords_bench.kernels.blockwise_gemm import launch as blockwise_gemm
from lords_bench.kernels.blockwise_gemm.launch import MAX_LORA_RANK, LoraTerm


def fused(
    x_MK: torch.Tensor,
    operands: BlockwiseOperands,
    lora_a_RK: torch.Tensor,
    lora_b_NR: torch.Tensor,
    *,
    scaling: float,
    bias_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """The fair form: x Aᵀ by one small product, and the rest in as few launches as the block-wise kernels allow.

    Many tokens: the GEMM adds scaling · (x Aᵀ) Bᵀ to its sums, two launches. Few: the split-K kernel, then one `addmm`,
    three launches. `scaling` is α/r. An adapter of a rank above 64 is added by `addmm` for any number of tokens.
    """
    if x_MK.shape[0] > FEW_TOKENS and lora_b_NR.shape[1] <= MAX_LORA_RANK:
        lora = LoraTerm(a_RK=lora_a_RK, b_NR=lora_b_NR, scaling=scaling)
        return blockwise_gemm.launch(x_MK, operands, bias_N=bias_N, lora=lora)
    product = blockwise.launch if x_MK.shape[0] <= FEW_TOKENS else blockwise_gemm.launch
    return torch.addmm(product(x_MK, operands, bias_N=bias_N), x_MK @ lora_a_RK.t(), lora_b_NR.t(), alpha=scaling)


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
