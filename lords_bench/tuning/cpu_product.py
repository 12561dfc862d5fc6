"""A product with a LoRDS weight on the processor, cut into tiles: something real to tune on a machine without a GPU.

y_MN = x_MK @ (levels[codes] * (B @ A))ᵀ, one tile of W at a time in float32. Small tiles stay in the cache and pay
Python's overhead often, large ones the other way round; codes are looked up one by one or, two to a byte, in a table of
256 pairs. It is tuned and timed by the same protocol as a kernel, and is faster than nobody's kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.tuning.space import SearchSpace, product_space

if TYPE_CHECKING:
    from torch import Tensor

    from lords_bench.timing.candidate import Candidate

NAME = "cpu_product"
Decode = Literal["index", "take", "pairs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuProductConfig:
    """One way to cut and compute.

    Attributes:
        tile_rows, tile_columns: tile of W that exists at a time; at most N × K of it.
        decode: `index` levels[codes], `take` the same through flat indices, `pairs` two codes at a time.
        in_place: the scale is multiplied into the decoded tile instead of into a new one.
        weight_first: tile @ xᵀ instead of x @ tileᵀ.
    """

    tile_rows: int = 256
    tile_columns: int = 1024
    decode: Decode = "index"
    in_place: bool = True
    weight_first: bool = False


def space() -> SearchSpace:
    """420 configurations; every one is right for every shape with an even K."""
    return product_space(
        CpuProductConfig,
        {
            "tile_rows": (16, 32, 64, 128, 256, 512, 1024),
            "tile_columns": (256, 512, 1024, 2048, 4096),
            "decode": ("index", "take", "pairs"),
            "in_place": (True, False),
            "weight_first": (False, True),
        },
        default=CpuProductConfig(),
    )


def candidate_maker(problem: Problem, *, seed: int = 0) -> Callable[[Settings, str], "Candidate"]:
    """Makes a candidate of (configuration, name) with one random weight and x; each layout is copies of them."""
    import torch

    from lords_bench.timing.candidate import Candidate

    generator = torch.Generator().manual_seed(seed)
    n, k, rank = problem.n, problem.k, problem.rank or 1
    codes_NK = torch.randint(0, 1 << problem.bits, (n, k), generator=generator, dtype=torch.uint8)
    levels_L = torch.linspace(-1, 1, 1 << problem.bits)
    b_NR = torch.randn(n, rank, generator=generator) * 0.3
    a_RK = torch.randn(rank, k, generator=generator) * 0.3
    x_MK = torch.randn(problem.m_bucket, k, generator=generator)
    pairs_PK = codes_NK[:, 0::2] * 16 + codes_NK[:, 1::2]
    low, high = torch.arange(256) % 16, torch.arange(256) // 16
    known = 1 << problem.bits
    table_P2 = torch.stack([levels_L[high.clamp(max=known - 1)], levels_L[low.clamp(max=known - 1)]], dim=1)
    expected_MN = (x_MK.double() @ (levels_L.double()[codes_NK.long()] * (b_NR.double() @ a_RK.double())).t()).float()
    limit = 1e-4 * float(expected_MN.abs().max())

    operands = (codes_NK, pairs_PK, b_NR, a_RK, x_MK)

    def decoded(codes_NK: "Tensor", pairs_PK: "Tensor", rows: slice, columns: slice, decode: str) -> "Tensor":
        if decode == "pairs":
            half = slice(columns.start // 2, columns.stop // 2)
            return table_P2[pairs_PK[rows, half].int()].flatten(1)
        codes = codes_NK[rows, columns]
        return levels_L[codes.int()] if decode == "index" else torch.take(levels_L, codes.long())

    def make(settings: Settings, name: str) -> Candidate:
        config = CpuProductConfig(**dict(settings))  # type: ignore[arg-type]
        height, width = min(config.tile_rows, n), min(config.tile_columns, k)

        def product(operands: "tuple[Tensor, ...]") -> "Tensor":
            codes_NK, pairs_PK, b_NR, a_RK, x_MK = operands
            y_MN = torch.zeros(x_MK.shape[0], n)
            for first in range(0, n, height):
                rows = slice(first, min(first + height, n))
                for begin in range(0, k, width):
                    columns = slice(begin, min(begin + width, k))
                    scale = b_NR[rows] @ a_RK[:, columns]
                    tile = decoded(codes_NK, pairs_PK, rows, columns, config.decode)
                    tile = tile.mul_(scale) if config.in_place else tile * scale
                    x = x_MK[:, columns]
                    y_MN[:, rows] += (tile @ x.t()).t() if config.weight_first else x @ tile.t()
            return y_MN

        def check() -> str | None:
            worst = float((product(operands) - expected_MN).abs().max())
            return None if worst <= limit else f"error {worst:.3g} is above {limit:.3g}"

        def launch_on(_layout: int) -> "Callable[[int], Tensor]":
            copies = tuple(tensor.clone() for tensor in operands)
            return lambda _slot: product(copies)

        return Candidate(
            name=name,
            launch=lambda _slot: product(operands),
            check=check,
            launch_on=launch_on,
            layout_bytes=sum(tensor.nbytes for tensor in operands),
        )

    return make
