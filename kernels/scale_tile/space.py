"""Configurations of the scale-tile kernel for few tokens."""

from dataclasses import dataclass

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu
from lords_bench.kernels.common.layout import k_block

MAX_TOKENS = 64
MAX_FLOAT32_TOKENS = 16

# Above it A and B of a tile take twice the registers and shared memory.
WIDEST_FAST_RANK = 64

# N tiles times token tile that one program may sum after the others: more of them would leave it working alone.
MAX_LAST_SUMS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleTileConfig:
    """One way to run the kernel.

    Attributes:
        block_n: rows of W per tile. 32 rows per warp halve the shared-memory reads; at least 16 per warp.
        blocks_k: K blocks that a program keeps A and x of.
        tiles_per_program: N tiles that a program walks over; more of them amortise the loads of A and x.
        last_sums: the last program of an N group sums the split-K partials (one launch), else a second kernel does.
        scale_in_fp16: S is accumulated in fp16 (float16 activations and factors only): fewer instructions, more error.
        min_block_m: smallest token tile. With 8 tokens Triton multiplies without matrix instructions on AMD's CDNA.
    """

    block_n: int = 64
    blocks_k: int = 2
    tiles_per_program: int = 4
    last_sums: bool = True
    scale_in_fp16: bool = False
    min_block_m: int = 8
    num_warps: int = 2
    num_stages: int = 3


def block_m(m: int, *, smallest: int = 8) -> int:
    """Token tile for M tokens: 8, 16 or 32, and no less than `smallest`."""
    return max(smallest, 8 if m <= 8 else 16 if m <= 16 else 32)


def programs_wanted(sm_count: int) -> int:
    """Four two-warp programs per multiprocessor keep enough loads in flight."""
    return 4 * sm_count


def default_config(
    m: int, n: int, k: int, *, bits: int, rank: int = 16, gpu: Gpu = ANY_GPU, in_float32: bool = False
) -> ScaleTileConfig:
    """A rule for shapes that were not tuned: K chunks of 256, as many N tiles per program as fill the GPU.

    Above rank 64 one K block at a time, since A of two makes 132 accesses of local memory on sm_90, and one copy ahead,
    with which it fits the shared memory of every GPU; tiles of 32 tokens spill there in two warps. On AMD, and for
    float32 activations, which no tensor core multiplies exactly, one K block at a time and no copies ahead, since
    registers are what the compiler runs out of. For 9 to 16 tokens no second copy ahead where shared memory is scarce:
    three programs instead of two fit a multiprocessor then; none at all for more tokens above rank 64 at 3 bits.
    """
    registers_are_scarce = gpu.is_amd or in_float32
    is_wide = rank > WIDEST_FAST_RANK
    blocks_k = 1 if bits == 3 or registers_are_scarce or is_wide else 2
    smallest = 16 if gpu.is_amd and not gpu.is_rdna else 8
    chunks = -(-k // (blocks_k * k_block(bits)))
    tiles = -(-n // 64)
    per_program = max(1, min(32, tiles * chunks // programs_wanted(gpu.sm_count)))
    if registers_are_scarce or (gpu.shared_is_scarce and is_wide and bits == 3 and m > 16):
        stages = 1
    else:
        stages = 2 if is_wide or (gpu.shared_is_scarce and 8 < m <= 16) else 3
    return ScaleTileConfig(
        blocks_k=blocks_k, tiles_per_program=per_program,
        last_sums=per_program * block_m(m, smallest=smallest) <= MAX_LAST_SUMS, min_block_m=smallest,
        num_warps=4 if registers_are_scarce or (is_wide and m > 16) else 2,
        num_stages=stages,
    )  # fmt: skip


def space(*, bits: int) -> tuple[ScaleTileConfig, ...]:
    blocks = (1, 2) if bits == 3 else (1, 2, 4)
    return tuple(
        ScaleTileConfig(
            block_n=block_n, blocks_k=blocks_k, tiles_per_program=tiles, last_sums=tiles <= 4, num_warps=warps,
            num_stages=stages,
        )
        for block_n, warps in ((64, 2), (64, 4), (128, 4))
        for blocks_k in blocks
        for tiles in (1, 2, 4, 8, 16)
        for stages in (2, 3)
    )  # fmt: skip
