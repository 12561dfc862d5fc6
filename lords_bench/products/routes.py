"""`ROUTES`: which kernel is preferred for how many tokens, where no table says otherwise.

The limits on M come from the static bounds (where a kernel stops being bound by memory), not from measurements. The
switch points of block-wise products are those of LoRDS, whose kernels have the same tiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

# Of weights whose products have a route; QLoRA's kernels are asked for by name.
RoutedKind = Literal["lords", "blockwise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Kernels in order of preference for up to `max_m` tokens (None: any number)."""

    max_m: int | None
    kernels: tuple[str, ...]


ROUTES: Mapping[RoutedKind, tuple[Route, ...]] = MappingProxyType(
    {
        "lords": (
            Route(max_m=1, kernels=("rank_expanded", "scale_tile", "dequantize_matmul", "reference")),
            Route(max_m=32, kernels=("scale_tile", "dequantize_matmul", "reference")),
            Route(max_m=512, kernels=("scale_tile_gemm", "dequantize_matmul", "reference")),
            Route(max_m=None, kernels=("dequantize_matmul", "reference")),
        ),
        "blockwise": (
            Route(max_m=32, kernels=("blockwise", "blockwise_gemm", "blockwise_dequantize_matmul")),
            Route(max_m=512, kernels=("blockwise_gemm", "blockwise_dequantize_matmul")),
            Route(max_m=None, kernels=("blockwise_dequantize_matmul",)),
        ),
    }
)


def preferred(kind: RoutedKind, m: int | None) -> tuple[str, ...]:
    """Kernels in order of preference for M tokens; None is any number of them."""
    return next(route.kernels for route in ROUTES[kind] if route.max_m is None or (m is not None and m <= route.max_m))


def routed(kind: RoutedKind) -> tuple[str, ...]:
    """The kernels that a route may choose for a kind of weight and that can be tuned, those for fewer tokens first."""
    return tuple(route.kernels[0] for route in ROUTES[kind])
