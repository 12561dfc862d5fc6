"""`StaticCase`: one launch of a kernel as it ships, and what is asked of its machine code.

A case is data: a kernel, a problem (the layer of 4096×4096 at rank 16), a target, and a configuration only where it is
not the one that the kernel's own rule picks there. What is compiled is what the kernel launches for it. Decoders in PTX
compile for NVIDIA GPUs, the portable decoder for AMD ones. Here is what the cases of several kernels share.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lords_bench.kernels.common.budget import Budget
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem

RANK = 16
BITS = (4, 3, 2)
BLOCK = 64

# The layer whose configuration and factors count: 4096×4096, B and A in 16 bits at rank 16.
LAYER = 4096
# Rows of a layer that is large enough for programs of more than one tile, and so for a loop, on every GPU.
MANY_ROWS = 14336
FACTOR_BITS = RANK * 16 * 2 / LAYER
BLOCK_SCALE_BITS = 16 / BLOCK
# Tokens of a training step.
TOKENS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """What is launched.

    Attributes:
        kernel: name of a kernel in the registry, or of a part of one.
        problem: its `m_bucket` is the number of tokens.
        settings: fields of the configuration, those that are not named as they are by default; None for the kernel's
            own rule.
        lora_rank: rank of the adapter of a QLoRA layer; None without.
        bias: whether a bias is added.
        multiprocessors: of the GPU; None is that of a large one.
    """

    kernel: str
    problem: Problem
    settings: Settings | None = None
    lora_rank: int | None = None
    bias: bool = False
    multiprocessors: int | None = None

    def config(self, kind: Callable[[], type[Any]]) -> Any:
        """The settings as a configuration of that class; None for the kernel's own rule."""
        return None if self.settings is None else kind()(**dict(self.settings))


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticCase:
    """One launch for one target, and what is asked of its machine code.

    Attributes:
        kernel: folder in `kernels/`.
        variant: what sets it apart from other cases of the kernel.
        target: name of the architecture.
        budget: that it is held to.
        launched: what is launched.
        bits_per_weight: bits read per weight, for predictions; None where memory is not what bounds the kernel.
        one_tile: each program has one tile, so nothing is a loop and the whole program is counted.
    """

    kernel: str
    variant: str
    target: str
    budget: Budget
    launched: Launched
    bits_per_weight: float | None = None
    one_tile: bool = False

    @property
    def label(self) -> str:
        """Kernel and variant."""
        return f"{self.kernel} {self.variant}"


def layer_problem(gpu: Gpu, m: int, bits: int, **fields: Any) -> Problem:
    """The product of M tokens with the layer: LoRDS unless there is a `block`, in bfloat16, with the GPU's decoder."""
    given: dict[str, Any] = {
        "n": LAYER, "x_dtype": "bfloat16", "scale_dtype": "float16", "decoder": "table" if gpu.is_amd else "grid7",
        "rank": None if "block" in fields else RANK, **fields,
    }  # fmt: skip
    return Problem(m_bucket=m, k=LAYER, bits=bits, **given)


def with_a_loop(
    gpu: Gpu, case: Callable[[int, bool], StaticCase], rule: Callable[[Problem, Gpu], Any]
) -> Iterator[StaticCase]:
    """The case of the layer, and that of more rows where the layer leaves each program of an NVIDIA GPU one tile.

    Args:
        gpu: which the cases are for.
        case: (rows, whether a program has one tile) to the case.
        rule: of the kernel.
    """

    def has_one_tile(n: int) -> bool:
        return bool(rule(case(n, False).launched.problem, gpu).tiles_per_program == 1)

    one_tile = has_one_tile(LAYER)
    yield case(LAYER, one_tile)
    if one_tile and not gpu.is_amd:
        yield case(MANY_ROWS, has_one_tile(MANY_ROWS))


def rows_named(n: int) -> str:
    """What a variant says of its rows: nothing for those of the layer."""
    return "" if n == LAYER else f" N={n}"


def block_format(problem: Problem) -> str:
    """`nf4 G=64`, or `int4 G=64` with zero points."""
    return f"{'int' if problem.zero_points else 'nf'}{problem.bits} G={problem.block}"
