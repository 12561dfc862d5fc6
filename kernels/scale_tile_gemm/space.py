"""Configurations of the scale-tile GEMM."""

from dataclasses import dataclass
from typing import Literal

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu
from lords_bench.kernels.common.support import require_tile
from lords_bench.kernels.scale_tile.space import WIDEST_FAST_RANK


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleTileGemmConfig:
    """One way to run the kernel.

    Attributes:
        form: `split` for mma.sync GPUs, `joined` for Hopper's wgmma.
        block_m: tokens per tile.
        block_n: rows of W per tile: at least 16 per warp and at least `block_m`, or each weight is decoded twice.
        scale_in_fp16: S is accumulated in fp16 (float16 activations and factors only).

    Raises:
        UsageError: tiles that would decode weights twice.
    """

    form: Literal["split", "joined"] = "split"
    block_m: int = 64
    block_n: int = 128
    scale_in_fp16: bool = False
    num_warps: int = 4
    num_stages: int = 2

    def __post_init__(self) -> None:
        require_tile(self.block_m, self.block_n, self.num_warps)


def default_config(
    m: int, *, bits: int = 4, rank: int = 16, decoder: str = "grid7", gpu: Gpu = ANY_GPU
) -> ScaleTileGemmConfig:
    """A rule for shapes that were not tuned.

    Where products have tensor memory, four warps would send S and W through it and shared memory, at twice the
    instructions: two warps keep both in registers. At 3 bits a K block is 256 wide, and 128 tokens of it neither fit
    Hopper's shared memory in three stages nor its registers; nor do 64 beside an A of rank 64. Above rank 64 B takes
    a quarter of the registers, so eight warps share a tile, and A the shared memory of a stage. Exact levels of 16 bits
    at 2 bits spill 8 instructions for 32 tokens on sm_80 in two stages, in three none.
    """
    is_wide = rank > WIDEST_FAST_RANK
    if gpu.has_wgmma:
        block_m = 64 if m <= 64 or bits == 3 else 128
        fewer = (rank > 32) + is_wide if bits == 3 else int(is_wide and block_m == 128)
        return ScaleTileGemmConfig(form="joined", block_m=block_m, num_warps=8, num_stages=3 - fewer)
    if gpu.has_tensor_memory and is_wide:
        return ScaleTileGemmConfig(block_m=32, block_n=32, num_warps=2)
    if gpu.has_tensor_memory:
        return ScaleTileGemmConfig(block_m=32 if m <= 32 else 64, block_n=64, num_warps=2)
    if gpu.is_amd:
        return ScaleTileGemmConfig(block_m=32 if m <= 32 else 64, block_n=64, num_stages=1)
    if is_wide:
        block_m = 32 if m <= 32 or bits == 3 else 64
        return ScaleTileGemmConfig(
            block_m=block_m, num_warps=8, num_stages=1 if bits == 3 and gpu.shared_is_scarce else 2
        )
    spills_in_two = gpu.arch == "sm_80" and decoder == "table16" and bits == 2 and m <= 32
    return ScaleTileGemmConfig(block_m=32 if m <= 32 else 64, num_stages=3 if spills_in_two else 2)


def space() -> tuple[ScaleTileGemmConfig, ...]:
    split = tuple(
        ScaleTileGemmConfig(block_m=m, block_n=n, num_warps=warps, num_stages=stages)
        for n, warps in ((128, 4), (64, 2))
        for m in (32, 64, 128)
        if m <= n
        for stages in (2, 3)
    )
    joined = tuple(
        ScaleTileGemmConfig(form="joined", block_m=m, num_warps=8, num_stages=stages)
        for m in (64, 128)
        for stages in (2, 3)
    )
    return split + joined
