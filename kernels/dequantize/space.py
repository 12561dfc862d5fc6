"""Configurations of the dequantize kernel."""

from dataclasses import dataclass

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu


@dataclass(frozen=True, kw_only=True, slots=True)
class DequantizeConfig:
    """`block_n` rows of one K block per program."""

    block_n: int = 64
    num_warps: int = 4
    num_stages: int = 1


def space() -> tuple[DequantizeConfig, ...]:
    return tuple(DequantizeConfig(block_n=n, num_warps=w) for n, w in ((16, 2), (32, 4), (64, 4), (64, 8), (128, 8)))


def default_config(*, bits: int = 4, in_float32: bool = False, gpu: Gpu = ANY_GPU) -> DequantizeConfig:
    """What is used where nothing was tuned: as many of 64 rows as do not spill.

    At 3 bits a K block is 256 wide, twice as much; factors or levels in float32 (`in_float32`) take more registers, and
    so does everything on RDNA.
    """
    halvings = (bits == 3) + in_float32 if gpu.is_rdna else int(bits == 3 and in_float32)
    return DequantizeConfig(block_n=64 >> halvings)
