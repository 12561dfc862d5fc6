"""Configurations of the dequantize kernel."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DequantizeConfig:
    """`block_n` rows of one K block per program."""

    block_n: int = 64
    num_warps: int = 4
    num_stages: int = 1


def space() -> tuple[DequantizeConfig, ...]:
    """All configurations worth timing; every one is right for every shape."""
    return tuple(DequantizeConfig(block_n=n, num_warps=w) for n, w in ((16, 2), (32, 4), (64, 4), (64, 8), (128, 8)))


def default_config() -> DequantizeConfig:
    """What is used where nothing was tuned."""
    return DequantizeConfig()
