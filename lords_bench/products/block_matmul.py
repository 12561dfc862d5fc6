"""`block_matmul`: a block-wise product by the kernel that serves it; what `ops.lords_matmul` is to LoRDS."""

from torch import Tensor

from lords_bench.errors import UsageError
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise
from lords_bench.products.route import launcher


def block_matmul(x: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None = None) -> Tensor:
    """Y = x @ Wᵀ + bias for a block-wise weight, by the kernel that serves the number of tokens.

    Args:
        x: (…, K), any leading shape and strides, also empty, in the dtype that the weight was prepared for.
        weight: N×K, without an adapter.
        bias_N: (N,), in the dtype of x.

    Returns:
        (…, N) in the dtype of x.

    Raises:
        UsageError: x, weight and bias that do not fit together, or a GPU without kernels; one line with the remedy.
    """
    if weight.adapter is not None:
        raise UsageError("the weight has an adapter, which a block-wise product would leave out; use a QLoRA kernel")
    if not x.dim() or x.shape[-1] != weight.k or x.device != weight.device or x.dtype != weight.dtype:
        raise UsageError(
            f"x has shape {tuple(x.shape)} and is {x.dtype} on {x.device}; the weight takes (…, {weight.k}) in "
            f"{weight.dtype} on {weight.device}"
        )
    if bias_N is not None and (tuple(bias_N.shape), bias_N.dtype, bias_N.device) != ((weight.n,), x.dtype, x.device):
        raise UsageError(f"bias {tuple(bias_N.shape)} in {bias_N.dtype} does not fit N = {weight.n} in {x.dtype}")
    x_MK = x.reshape(-1, weight.k)
    if not x_MK.shape[0]:
        return x.new_empty(*x.shape[:-1], weight.n)
    return launcher(x_MK.shape[0], weight)(x_MK, weight, bias_N).view(*x.shape[:-1], weight.n)
