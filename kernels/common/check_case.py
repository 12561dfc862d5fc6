"""`CheckCase`, `Check`: what kernels are checked on, and how a launch that is no product is tried on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lords_bench.kernels.common.prepared_blocks import LoraAdapter

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CheckCase:
    """A random weight in every format, with activations; the fields of a stored LoRDS weight are among its own.

    Attributes:
        scale_NG, zero_NG: block scales of `block` inputs, and zero points in units of the levels; None where only the
            low-rank scale is asked for.
        adapter: a LoRA adapter in the dtype of x; None likewise.
    """

    name: str
    codes_NK: Tensor
    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    bits: int
    x_MK: Tensor
    bias_N: Tensor
    block: int = 64
    scale_NG: Tensor | None = None
    zero_NG: Tensor | None = None
    adapter: LoraAdapter | None = None

    @property
    def values_NK(self) -> Tensor:
        """levels[codes] in float64."""
        return self.levels_L.double()[self.codes_NK.long()]

    def output_gradient(self) -> Tensor:
        """A random dY_MN in the dtype of x, always the same."""
        m, n = self.x_MK.shape[0], self.codes_NK.shape[0]
        return torch.randn(m, n, generator=torch.Generator().manual_seed(1)).to(self.x_MK)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trial:
    """One launch on one case.

    Attributes:
        inputs: what a launch must leave as it is.
        launch: to the results.
        errors: results to errors in units of their bounds, by what they are errors of.
        refusal: why the kernel does not take the case; None if it does.
    """

    inputs: tuple[Tensor, ...]
    launch: Callable[[], tuple[Tensor, ...]]
    errors: Callable[[tuple[Tensor, ...]], Mapping[str, Tensor]]
    refusal: str | None = None


# Places in the check's shapes, `kernel_check.cases.SHAPES`, of which three meet all ranks with all widths and dtypes.
# One token, ragged tiles, many tokens. No more: in float32 kernels of training take the compiler ten times as long.
SHAPES_OF_TOKENS = (1, 5, 6)
# Three sizes of W, for what has no tokens.
SHAPES_OF_WEIGHTS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """How a launch that is no product is tried.

    Attributes:
        name: in the list of what is checked.
        trial: a case and a decoder (None: the fastest that fits) to the trial.
        shapes: places in the check's shapes.
        repeatable: whether a second launch must give the same bits.
        is_compiled: whether what it tries is all kernels of this project.
    """

    name: str
    trial: "Callable[[CheckCase, Decoder | None], Trial]"
    shapes: tuple[int, ...]
    repeatable: bool = True
    is_compiled: bool = True
