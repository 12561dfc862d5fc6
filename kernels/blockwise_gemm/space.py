"""Configurations of the block-wise GEMM: search space and rule of the scale-tile GEMM, so that tuning is equal."""

from dataclasses import dataclass, replace
from typing import Literal

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu
from lords_bench.kernels.common.support import require_tile
from lords_bench.kernels.scale_tile_gemm import space as scale_tile_gemm
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockwiseGemmConfig:
    """One way to run the kernel; fields as in `ScaleTileGemmConfig`.

    Raises:
        UsageError: tiles that would decode weights twice.
    """

    form: Literal["split", "joined"] = "split"
    block_m: int = 64
    block_n: int = 128
    num_warps: int = 4
    num_stages: int = 2

    def __post_init__(self) -> None:
        require_tile(self.block_m, self.block_n, self.num_warps)


def default_config(
    m: int, *, bits: int = 4, decoder: str, lora_rank: int = 0, gpu: Gpu = ANY_GPU
) -> BlockwiseGemmConfig:
    """The rule of the scale-tile GEMM for shapes that were not tuned.

    Exact levels of 16 bits take more registers to decode: with four warps 3 instructions spill on sm_86 and sm_89, with
    two of the same tile none. At 3 bits 128 tokens in three stages beside an adapter of rank 64 ask for 256,000 bytes
    of shared memory; Hopper has 232,448.
    """
    config = _alike(scale_tile_gemm.default_config(m, gpu=gpu))
    if config.form == "joined" and config.block_m > 64 and bits == 3 and lora_rank > 32:
        config = replace(config, num_stages=2)
    if decoder == "table16" and config.form == "split":
        config = replace(config, block_n=64, num_warps=2)
    return config


def space() -> tuple[BlockwiseGemmConfig, ...]:
    return tuple(dict.fromkeys(map(_alike, scale_tile_gemm.space())))


def _alike(config: ScaleTileGemmConfig) -> BlockwiseGemmConfig:
    return BlockwiseGemmConfig(
        form=config.form,
        block_m=config.block_m,
        block_n=config.block_n,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
