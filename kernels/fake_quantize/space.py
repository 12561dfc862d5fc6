"""Configurations of the fake-quantize kernel."""

from dataclasses import dataclass

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeQuantizeConfig:
    """A tile of `block_n` × `block_k` weights per program."""

    block_n: int = 32
    block_k: int = 64
    num_warps: int = 4
    num_stages: int = 1


def space() -> tuple[FakeQuantizeConfig, ...]:
    return tuple(
        FakeQuantizeConfig(block_n=n, block_k=k, num_warps=w)
        for n, k, w in ((16, 64, 4), (16, 128, 4), (32, 64, 4), (64, 64, 8), (32, 128, 8))
    )


def default_config(*, gpu: Gpu = ANY_GPU) -> FakeQuantizeConfig:
    """What is used where nothing was tuned; AMD's compiler runs out of scalar registers for larger tiles."""
    return FakeQuantizeConfig(block_n=16 if gpu.is_amd else 32)
