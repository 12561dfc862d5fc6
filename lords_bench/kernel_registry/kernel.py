"""`Kernel`: one way to compute a product, behind the interface that dispatch, tuner, check and suites share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lords_bench.kernels.common.support import Support

# What a kernel multiplies with: a `PreparedWeight`, a `PreparedBlockwise`, or one of these with a `LoraAdapter`.
WeightKind = Literal["lords", "blockwise", "qlora"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What no launch of a product can do without, for the physical ceiling and the roofline; not what a kernel does.

    What could stay in a cache, a scratch matrix or y, does not count, nor does arithmetic besides the product. The
    analytic model that ranks configurations has its own account of a kernel's work: `tuning.model.Work`.

    Attributes:
        bytes_moved: from device memory to the chip.
        flops: 2·M·N·K.
    """

    bytes_moved: int
    flops: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """One way to compute y_MN = x_MK @ W_NKᵀ + bias for a prepared weight.

    Attributes:
        name: key in `KERNELS`.
        weight: which kind of prepared weight it takes.
        supports: (M, weight, dtype of x) to whether it takes the problem, and why not.
        space: weight to the configurations worth timing; every one is right for every shape.
        launch: (x_MK, weight, bias_N, config) to y_MN; `config` None is the rule for shapes that were not tuned.
        cost: (M, weight, dtype of x) to a lower bound of traffic, and the useful arithmetic.
        config: to the class of its configurations; None if it has nothing to configure.
        roots: the functions that run it, `module:name` below the package, whose source a tuned entry is keyed by.
    """

    name: str
    weight: WeightKind = "lords"
    supports: Callable[[int, Any, torch.dtype], "Support"]
    space: Callable[[Any], tuple[Any, ...]]
    launch: Callable[[Tensor, Any, Tensor | None, Any], Tensor]
    cost: Callable[[int, Any, torch.dtype], Cost]
    config: Callable[[], type[Any]] | None
    roots: tuple[str, ...]


@cache
def kernel_module(name: str) -> Any:
    """A module of the kernels, imported at its first use: it needs Triton, and the registry must not."""
    return import_module(f"lords_bench.kernels.{name}")


def yes() -> "Support":
    """The problem is taken."""
    found: Support = kernel_module("common.support").YES
    return found


def no(reason: str) -> "Support":
    """It is not, with the reason."""
    found: Support = kernel_module("common.support").no(reason)
    return found
