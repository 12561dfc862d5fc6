"""Configurations of the backward kernels."""

from dataclasses import dataclass

from lords_bench.kernels.common.gpu import ANY_GPU, Gpu


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorGradientsConfig:
    """`atomic` adds tiles up with fp32 atomics: less memory, but the last bits differ from run to run."""

    block_m: int = 64
    block_n: int = 128
    atomic: bool = False
    num_warps: int = 8
    num_stages: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class InputGradientConfig:
    """`block_m` tokens per program, `block_n` rows of W per step."""

    block_m: int = 64
    block_n: int = 64
    num_warps: int = 4
    num_stages: int = 2


def factor_gradients_default(*, bits: int, gpu: Gpu = ANY_GPU, in_float32: bool = False) -> FactorGradientsConfig:
    """128×128 tiles of dS in the registers of eight warps; at 3 bits, where a K block is 256 wide, 64×256 in four.

    Float32 activations are multiplied without tensor cores, whose operands lie in registers: a quarter of a tile, and
    16 tokens at a time.
    """
    if gpu.is_amd:
        return FactorGradientsConfig(block_m=32, block_n=16 if gpu.is_rdna and bits == 3 else 64, num_stages=2)
    if in_float32:
        return FactorGradientsConfig(block_m=16, block_n=32 if bits == 3 else 64, num_stages=2)
    return FactorGradientsConfig(block_n=64, num_warps=4, num_stages=2) if bits == 3 else FactorGradientsConfig()


def input_gradient_default(*, bits: int, gpu: Gpu = ANY_GPU) -> InputGradientConfig:
    """Tiles that fit the registers of four warps, which read codes 16 bytes at a time (at 3 bits 8)."""
    if gpu.is_amd:
        return InputGradientConfig(block_n=16 if gpu.is_rdna and bits == 3 else 32, num_warps=8)
    return InputGradientConfig(block_n=32) if bits == 3 else InputGradientConfig()


def factor_gradients_space(*, bits: int) -> tuple[FactorGradientsConfig, ...]:
    rows = (64,) if bits == 3 else (64, 128)
    return tuple(
        FactorGradientsConfig(block_m=block_m, block_n=block_n, atomic=atomic, num_stages=stages)
        for block_m in (32, 64)
        for block_n in rows
        for atomic in (False, True)
        for stages in (2, 3)
    )


def input_gradient_space() -> tuple[InputGradientConfig, ...]:
    return tuple(
        InputGradientConfig(block_m=m, block_n=n, num_warps=w)
        for m, w in ((64, 4), (64, 8), (128, 8))
        for n in (32, 64)
    )
