"""The Hessian of a layer's squared output error: H_KK = mean of x xᵀ over calibration inputs.

For a linear layer y = W x, replacing W by W - E changes the output by E x, so the mean squared change over the
calibration inputs is tr(E H Eᵀ) (Frantar & Alistarh, Optimal Brain Compression, arXiv 2208.11580, section 4). Every
calibrated method in this package minimises that number. H costs K² numbers; layers that read the same input share it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.reference.panels import compute_dtype

# An honest Hessian is symmetric up to the rounding of its sum; anything rougher is another matrix.
ASYMMETRY_FRACTION = 1e-3

# Rows multiplied by H at once: enough to be bound by arithmetic and not by reading H, 16 MiB of float32 on a CPU.
PRODUCT_ELEMENTS_CPU = 1 << 22
PRODUCT_ELEMENTS_GPU = 1 << 27


class HessianAccumulator:
    """Running sum of x xᵀ for one input of width K.

    Sums are kept in `dtype` (float32, or float64 for tests), K² numbers on `device`.

    Raises:
        WeightError: from `hessian_KK` when nothing was added, and from `add` when the width is not K.
    """

    def __init__(self, k: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        self._sum_KK = torch.zeros(k, k, dtype=dtype, device=device)
        self._count = 0

    @property
    def count(self) -> int:
        """Inputs (tokens) added so far."""
        return self._count

    @torch.no_grad()
    def add(self, x_MK: Tensor) -> None:
        """Add every input of `x_MK`: any leading shape, last axis K, any float dtype, any device."""
        k = self._sum_KK.shape[0]
        if x_MK.shape[-1] != k:
            raise WeightError(f"input of shape {tuple(x_MK.shape)} does not end in K = {k}; give one layer's inputs")
        flat_MK = x_MK.reshape(-1, k).to(self._sum_KK)
        self._sum_KK.addmm_(flat_MK.t(), flat_MK)
        self._count += flat_MK.shape[0]

    @property
    def hessian_KK(self) -> Tensor:
        """Mean of x xᵀ, K×K, in the dtype and on the device of the sums."""
        if self._count == 0:
            raise WeightError("no calibration input reached this layer; feed at least one token through it")
        return self._sum_KK / self._count


def check_hessian(hessian_KK: Tensor | None, k: int) -> Tensor:
    """The Hessian itself, if it can be one of a layer with K inputs.

    Raises:
        WeightError: missing, not K×K, not a float tensor, not finite, all zero, negative on its diagonal, asymmetric.
    """
    if hessian_KK is None:
        raise WeightError("assignment 'feedback' needs hessian_KK; collect it with HessianAccumulator")
    if tuple(hessian_KK.shape) != (k, k):
        raise WeightError(f"Hessian of shape {tuple(hessian_KK.shape)} does not fit a weight with K = {k}; give K×K")
    if not hessian_KK.is_floating_point():
        raise WeightError(f"Hessian has dtype {hessian_KK.dtype}; convert it to float32")
    if not bool(torch.isfinite(hessian_KK).all()):
        raise WeightError("Hessian has non-finite numbers; look for overflow in the calibration inputs")
    diagonal_K = hessian_KK.diagonal()
    lowest, highest = (float(value) for value in diagonal_K.aminmax())
    if lowest < 0.0:
        raise WeightError(f"Hessian has {lowest:.3g} on its diagonal; a mean of x xᵀ has none below 0")
    if highest == 0.0:
        raise WeightError("Hessian is all zero: no calibration input reached this layer; calibrate on other text")
    if float((hessian_KK - hessian_KK.t()).abs().amax()) > ASYMMETRY_FRACTION * highest:
        raise WeightError("Hessian is not symmetric; give the mean of x xᵀ")
    return hessian_KK


def damped(hessian_KK: Tensor, fraction: float) -> Tensor:
    """H + fraction · mean(diag H) · I.

    It makes H positive definite where inputs are dead, repeated or fewer than K, and is worth a little accuracy as
    well: a small error in every weight is held against the codes even where calibration saw no input (GPTQ, arXiv
    2210.17323, section 3.3, uses 0.01).
    """
    damping = fraction * hessian_KK.diagonal().mean()
    return hessian_KK + torch.diag(damping.expand(hessian_KK.shape[0]))


def product_panels(rows: int, row_elements: int, device: torch.device) -> Iterator[slice]:
    """Slices of rows to be multiplied by H, where a row and its temporaries hold `row_elements` numbers."""
    budget = PRODUCT_ELEMENTS_CPU if device.type == "cpu" else PRODUCT_ELEMENTS_GPU
    step = max(1, budget // max(1, row_elements))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


@torch.no_grad()
def hessian_error_N(weight_NK: Tensor, quantized_NK: Tensor, hessian_KK: Tensor) -> Tensor:
    """Row by row e H eᵀ, e = W - Ŵ: float64, N numbers, whose sum is tr(E H Eᵀ).

    The product with H is taken in the compute dtype of the weight (float32 unless it is float64).
    """
    dtype = compute_dtype(weight_NK.dtype)
    hessian = hessian_KK.to(dtype)
    n, k = weight_NK.shape
    error_N = torch.empty(n, dtype=torch.float64, device=weight_NK.device)
    for panel in product_panels(n, k, weight_NK.device):
        error_PK = weight_NK[panel].to(dtype) - quantized_NK[panel].to(dtype)
        error_N[panel] = ((error_PK @ hessian) * error_PK).sum(dim=1, dtype=torch.float64)
    return error_N
