"""What computes `LordsWeight.matmul`. The reference knows no kernels, so the part that has them installs itself here.

Importing `lords_bench.products.ops` installs its operator, which runs the reference arithmetic on a CPU and kernels on
a GPU. A program that never imports it multiplies with the dequantized weight: the definition of the product, right
everywhere, but slow on a GPU, which is said once.
"""

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from lords_bench.errors import UsageError
from lords_bench.reference.panels import compute_dtype


class Dense(Protocol):
    """A weight W_NK that can be made dense."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W_NK in `dtype`."""


# (x, the weight, bias_N) to y; the weight is a `LordsWeight`, which this module must not know.
Engine = Callable[[Tensor, Any, Tensor | None], Tensor]


def dense_product(x: Tensor, weight: Dense, bias_N: Tensor | None) -> Tensor:
    """Y = x @ Wᵀ + bias through the dense W, rounded once to the dtype of x.

    Raises:
        UsageError: x that is not floating point, or x and bias that do not fit the weight.
    """
    n, k = weight.shape
    if not x.dtype.is_floating_point or x.dim() == 0 or x.shape[-1] != k:
        raise UsageError(f"x is {x.dtype} of shape {tuple(x.shape)}; the weight takes floating point (…, {k})")
    if bias_N is not None and bias_N.shape != (n,):
        raise UsageError(f"bias {tuple(bias_N.shape)} does not fit; the weight takes ({n},)")
    if x.device.type == "cuda":
        warnings.warn(
            "a LoRDS product runs through the dense weight, which is slow; "
            "`import lords_bench.products.ops` for the kernels",
            stacklevel=4,
        )
    dtype = compute_dtype(x.dtype)
    bias = None if bias_N is None else bias_N.to(dtype)
    return linear(x.to(dtype), weight.dequantize(dtype), bias).to(x.dtype)


_installed: list[Engine] = [dense_product]


def install(engine: Engine) -> None:
    """Let `engine` compute every product from now on."""
    _installed[0] = engine


def product(x: Tensor, weight: Any, bias_N: Tensor | None) -> Tensor:
    """The product by whatever is installed."""
    return _installed[0](x, weight, bias_N)
