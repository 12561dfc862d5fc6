"""Configurations of the rank-expanded kernel."""

from dataclasses import dataclass

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu
from lords_bench.kernels.common.layout import k_block

MAX_TOKENS = 4
MAX_RANK = 64
MAX_CHUNK = 512
# Least inputs of an int8 product, and how many of a K block the portable decoder yields at a time.
_LEAST_INPUTS = 32
_TABLE_COLUMNS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RankExpandedConfig:
    """One way to run the kernel.

    Attributes:
        block_n: rows of W per tile.
        blocks_k: K blocks that a program keeps P of; at most 512 inputs, beyond which int32 sums could overflow.
        tiles_per_program: N tiles that a program walks over; computing P costs as much as two tiles.
        last_sums: the last program of an N group sums the split-K partials (one launch), else a second kernel does.
    """

    block_n: int = 64
    blocks_k: int = 2
    tiles_per_program: int = 4
    last_sums: bool = True
    num_warps: int = 2
    num_stages: int = 3


def default_config(n: int, k: int, *, bits: int, decoder: str = "grid7", gpu: Gpu = ANY_GPU) -> RankExpandedConfig:
    """A rule for shapes that were not tuned: K chunks of 256 (512 at 2 bits), eight warps per multiprocessor.

    At 3 bits with 64 rows the assembler would spill 8 bytes to reach 96 registers on sm_86 and sm_89; with 128 rows,
    which four warps share, it does not. The portable decoder needs K blocks of 512 inputs there, of which 64 rows
    without copies ahead fit the shared memory at every rank.
    """
    blocks_k = max({4: 2, 3: 1, 2: 4}[bits], _least_blocks(decoder))
    if gpu.is_amd:
        # RDNA's integer products take 16 inputs, and it lacks registers for more.
        blocks_k = 1 if gpu.is_rdna else 2
    is_tight = bits == 3 and gpu.shared_is_scarce
    holds_less = is_tight and decoder == "table"
    block_n = 128 if is_tight and not holds_less else 64
    chunks = -(-k // (blocks_k * k_block(bits)))
    tiles = -(-n // block_n)
    per_program = max(1, min(32, tiles * chunks * block_n // (256 * gpu.sm_count)))
    return RankExpandedConfig(
        block_n=block_n, blocks_k=blocks_k, tiles_per_program=per_program, last_sums=per_program <= 4,
        num_warps=4 if gpu.is_amd else block_n // 32, num_stages=1 if gpu.is_amd or holds_less else 3,
    )  # fmt: skip


def _least_blocks(decoder: str) -> int:
    """K blocks of a chunk that the integer products of CDNA and of NVIDIA need."""
    return _LEAST_INPUTS // _TABLE_COLUMNS if decoder == "table" else 1


def space(*, bits: int, decoder: str = "grid7") -> tuple[RankExpandedConfig, ...]:
    blocks = tuple(b for b in (1, 2, 4) if b >= _least_blocks(decoder) and b * k_block(bits) <= MAX_CHUNK)
    return tuple(
        RankExpandedConfig(
            block_n=block_n, blocks_k=blocks_k, tiles_per_program=tiles, last_sums=tiles <= 4, num_warps=warps,
            num_stages=stages,
        )
        for block_n, warps in ((64, 2), (64, 4), (128, 4))
        for blocks_k in blocks
        for tiles in (1, 2, 4, 8, 16)
        for stages in (2, 3)
    )  # fmt: skip
