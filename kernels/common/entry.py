"""`Entry`: everything about a kernel's folder, as data; `Kernel`: one way to compute a product that it offers.

Dispatch, tuner, check, static cases and suites go over the entries of the registry and name no kernel. An entry is
imported where Triton is not installed: what needs it stands in functions that import it at their first call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from lords_bench.kernels.common.check_case import Check
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.static_case import Launched, StaticCase
from lords_bench.kernels.common.support import Support
from lords_bench.records.tuned import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a kernel multiplies with: a `PreparedWeight`, a `PreparedBlockwise`, or one of these with a `LoraAdapter`.
WeightKind = Literal["lords", "blockwise", "qlora"]


class Prepared(Protocol):
    """What every prepared weight answers."""

    @property
    def n(self) -> int:
        """Out features."""

    @property
    def k(self) -> int:
        """In features."""

    @property
    def read_tensors(self) -> tuple[Tensor, ...]:
        """What no product can do without reading."""

    def fits(self, kind: WeightKind) -> Support:
        """Whether kernels of that kind take such weights at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What no launch of a product can do without, for the physical ceiling and the roofline; not what a kernel does.

    What could stay in a cache, a scratch matrix or y, does not count, nor does arithmetic besides the product. The
    analytic model that ranks configurations has its own account of a kernel's work: `WorkForm`.

    Attributes:
        bytes_moved: from device memory to the chip.
        flops: 2·M·N·K.
    """

    bytes_moved: int
    flops: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Roundings:
    """Roundings to the dtype of x on the way to y, from which the check's error bound follows.

    Attributes:
        count: of the scale, of level · scale, of W, of the adapter's parts: whatever the kernel rounds.
        of_table: whether levels of a decoder's table, which have the dtype of x, are one more.
        of_zero: more where there are zero points: of themselves, and of their differences to levels.
        fixed_point: P = A∘x is held in 16 bits per rank and K chunk, and everything else is exact.
    """

    count: int
    of_table: bool = False
    of_zero: int = 0
    fixed_point: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkForm:
    """What the analytic model knows of a kernel besides its configuration.

    Attributes:
        grid: programs of K chunks that walk over N tiles, tiles of y over all of K, or W to a scratch matrix, tile by
            tile, and a library's product.
        issue: issue slots of a warp per 32 weights, round figures of shipped code, at 4, 3 and 2 bits.
        integer: products of codes with parts of P in int8, one token at a time.
    """

    grid: Literal["split-k", "tiles", "scratch"]
    issue: tuple[float, float, float]
    integer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The configurations of a kernel.

    Attributes:
        config: to the class of its configurations.
        space: problem to the configurations worth timing; every one is right for every shape.
        rule: (problem, GPU) to what is used where nothing was tuned.
        work: what the analytic model knows of it.
    """

    config: Callable[[], type[Any]]
    space: Callable[[Problem], tuple[Any, ...]]
    rule: Callable[[Problem, Gpu], Any]
    work: WorkForm


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """One way to compute y_MN = x_MK @ W_NKᵀ + bias for a prepared weight.

    Attributes:
        name: key in `KERNELS`.
        weight: which kind of prepared weight it takes.
        takes: (M, weight prepared for kernels, dtype of x) to whether it takes the problem, and why not.
        launch: (x_MK, weight, bias_N, config) to y_MN; `config` None is the rule for shapes that were not tuned.
        roots: the functions that run it, `module:name` below the package, whose source a tuned entry is keyed by.
        roundings: what its result is held to.
        tuning: None if it has nothing to configure.
        is_compiled: whether it launches kernels; else it takes weights that are not prepared for any.
        with_adapter: rank to a `launch` for a weight with an adapter of that rank, whose product it adds to its own
            sums; None where it cannot.
    """

    name: str
    weight: WeightKind = "lords"
    takes: Callable[[int, Any, torch.dtype], Support]
    launch: Callable[[Tensor, Any, Tensor | None, Any], Tensor]
    roots: tuple[str, ...]
    roundings: Roundings
    tuning: Tuning | None = None
    is_compiled: bool = True
    with_adapter: Callable[[int], Callable[[Tensor, Any, Tensor | None, Any], Tensor] | None] = lambda _rank: None

    def supports(self, m: int, weight: Prepared, dtype: torch.dtype) -> Support:
        """Whether it takes M tokens of the dtype times the weight, and why not."""
        fitting = weight.fits(self.weight)
        return self.takes(m, weight, dtype) if fitting.ok or not self.is_compiled else fitting

    def cost(self, m: int, weight: Prepared, dtype: torch.dtype) -> Cost:
        """The weight and x once, and the product with W alone: the same for every kernel, so that formats compare."""
        stored = sum(tensor.numel() * tensor.element_size() for tensor in weight.read_tensors)
        return Cost(bytes_moved=stored + m * weight.k * dtype.itemsize, flops=2 * m * weight.n * weight.k)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A launch that is no product by itself: a gradient, a fake quantization, a weight that is made dense.

    Attributes:
        name: that compile requests call it by.
        launch: what was asked for, on tensors without memory.
        space: problem to the configurations worth timing.
    """

    name: str
    launch: Callable[[Launched], object]
    space: Callable[[Problem], tuple[Any, ...]]


def no_cases(_gpu: Gpu) -> Iterator[StaticCase]:
    """Of a folder whose launches others pin."""
    return iter(())


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A folder of `kernels/`.

    Attributes:
        name: of the folder.
        kernels: the products that it offers.
        parts: its launches that are none.
        checks: of the parts, against float64; a product is checked by its roundings.
        cases: GPU to the launches that are pinned and held to budgets.
        misses: (variant, target) of a case to what is outside its budget, word for word, each with its reason beside
            it. They are of one compiler: `budget.COUNTED_WITH_TRITON`.
        loops: `@triton.jit` functions whose main loop decodes weights, a tile of `BLOCK_N` rows and `BLOCKS_K` K blocks
            (one, where nothing says how many) in each turn.
    """

    name: str
    kernels: tuple[Kernel, ...] = ()
    parts: tuple[Part, ...] = ()
    checks: tuple[Check, ...] = ()
    cases: Callable[[Gpu], Iterator[StaticCase]] = no_cases
    misses: "Mapping[tuple[str, str], str]" = field(default_factory=lambda: MappingProxyType({}))
    loops: tuple[str, ...] = ()


@cache
def kernel_module(name: str) -> Any:
    """A module of the kernels, imported at its first use: it needs Triton, and an entry must not."""
    return import_module(f"lords_bench.kernels.{name}")
