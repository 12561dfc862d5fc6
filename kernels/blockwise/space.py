"""Configurations of the block-wise baseline: the search space of the scale-tile kernel, so that tuning is equal."""

from dataclasses import dataclass, fields

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.scale_tile import space as scale_tile
from lords_bench.kernels.scale_tile.space import ScaleTileConfig

MAX_TOKENS = 64
# One tile of tokens. Above, this kernel decodes every weight once per tile; the GEMM has larger tiles.
FEW_TOKENS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockwiseConfig:
    """One way to run the kernel; fields as in `ScaleTileConfig`."""

    block_n: int = 64
    blocks_k: int = 2
    tiles_per_program: int = 4
    last_sums: bool = True
    min_block_m: int = 8
    num_warps: int = 2
    num_stages: int = 3


def block_m(m: int, *, smallest: int = 8) -> int:
    """Token tile for M tokens: 8, 16 or 32, and no less than `smallest`."""
    return max(smallest, 8 if m <= 8 else 16 if m <= 16 else 32)


def default_config(n: int, k: int, *, bits: int, gpu: Gpu = ANY_GPU, in_float32: bool = False) -> BlockwiseConfig:
    """A rule for shapes that were not tuned, the same as for the scale-tile kernel but for RDNA's few tokens.

    Tiles of 8 tokens spill 92 registers there at 3 bits, and with older compilers at any width; of 16 they do not.
    Float32 activations of 32 tokens fit scarce shared memory one K block at a time, without copies ahead.
    """
    is_tight = in_float32 and gpu.shared_is_scarce
    blocks_k = 1 if bits == 3 or gpu.is_amd or is_tight else 2
    chunks = -(-k // (blocks_k * k_block(bits)))
    per_program = max(1, min(32, -(-n // 64) * chunks // (4 * gpu.sm_count)))
    return BlockwiseConfig(
        blocks_k=blocks_k, tiles_per_program=per_program, last_sums=per_program <= 4,
        min_block_m=16 if gpu.is_amd else 8, num_warps=4 if gpu.is_amd else 2,
        num_stages=1 if gpu.is_amd or is_tight else 3,
    )  # fmt: skip


def space(*, bits: int) -> tuple[BlockwiseConfig, ...]:
    return tuple(dict.fromkeys(map(_alike, scale_tile.space(bits=bits))))


def _alike(config: ScaleTileConfig) -> BlockwiseConfig:
    return BlockwiseConfig(**{field.name: getattr(config, field.name) for field in fields(BlockwiseConfig)})
