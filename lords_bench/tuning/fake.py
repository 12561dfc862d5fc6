"""A made-up kernel for a made-up device: a landscape with cliffs and ties, and configurations that fail in every way.

`fake` is well behaved, `fake_faulty` has one configuration of each kind of failure. Both go through the whole tuner
with real processes; only the times are invented, every row says so, and no table takes them.
"""

import os
import signal
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from types import MappingProxyType

from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.tuning.space import Constraint, SearchSpace, product_space
from lords_bench.tuning.strategies.protocol import Guess

CLEAN, FAULTY = "fake", "fake_faulty"
FAKE_KERNELS = (CLEAN, FAULTY)


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeConfig:
    """Fields as kernels have them."""

    block_n: int = 64
    blocks_k: int = 2
    split: bool = False
    num_warps: int = 4
    num_stages: int = 2


class OutOfResources(RuntimeError):  # noqa: N818  (named as Triton names it, which is how it is recognised)
    """What Triton raises for a kernel that needs more shared memory than there is."""


def space() -> SearchSpace:
    """54 configurations."""
    return product_space(
        FakeConfig,
        {
            "block_n": (32, 64, 128, 256),
            "blocks_k": (1, 2, 4),
            "split": (False, True),
            "num_warps": (2, 4, 8),
            "num_stages": (2,),
        },
        default=FakeConfig(),
        constraints=(
            Constraint(name="at least 16 rows per warp", holds=lambda c: int(c["block_n"]) >= 16 * int(c["num_warps"])),
        ),
    )


def truth_ns(settings: Settings, problem: Problem) -> float:
    """Invented time: a slope with a cliff where a made-up register file is full, and a tenth of ruggedness."""
    config = dict(settings)
    block_n, blocks_k, warps = int(config["block_n"]), int(config["blocks_k"]), int(config["num_warps"])
    slope = 1 + 0.08 * abs(log2(block_n / 128)) + 0.05 * abs(log2(blocks_k / 2)) + 0.04 * abs(log2(warps / 4))
    cliff = 2.5 if block_n * blocks_k / warps > 96 else 1.0
    split = 0.93 if bool(config["split"]) == (problem.m_bucket <= 8) else 1.0
    rugged = 1 + 0.1 * (_hash(settings, problem) % 1000) / 1000
    return 5000.0 * slope * cliff * split * rugged * (1 + problem.m_bucket / 64) * problem.n * problem.k / 2**24


def guess(settings: Settings, problem: Problem) -> Guess:
    """A model that knows the slope, and neither the cliff nor the rest."""
    config = dict(settings)
    size = int(config["block_n"]) * int(config["blocks_k"])
    return Guess(predicted_ns=5000.0 * (1 + 0.1 * abs(log2(size / 256))) * problem.n * problem.k / 2**24)


def shared_bytes(settings: Settings) -> int:
    """Invented shared memory of a block."""
    config = dict(settings)
    return int(config["block_n"]) * int(config["blocks_k"]) * int(config["num_stages"]) * 64


def fault_of(settings: Settings) -> Callable[[], str | None] | None:
    """What goes wrong with a configuration of `fake_faulty`, as its check; None = nothing."""
    by_fault = {space().configs[number]: fault for number, fault in _FAULT_AT.items()}
    return by_fault.get(settings)


def _hash(settings: Settings, problem: Problem) -> int:
    return zlib.crc32(repr((settings, problem.m_bucket, problem.n, problem.k)).encode())


def _hang() -> str | None:
    time.sleep(3600)
    return None


def _abort() -> str | None:
    os.abort()


def _segfault() -> str | None:
    os.kill(os.getpid(), signal.SIGSEGV)
    return None


def _out_of_resources() -> str | None:
    raise OutOfResources("out of resource: shared memory, Required: 294912, Hardware limit: 232448")


def _wrong() -> str | None:
    return "error is 3.1 times its bound at row 5, column 17"


def _sticky() -> str | None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


_FAULT_AT: Mapping[int, Callable[[], str | None]] = MappingProxyType(
    {3: _hang, 5: _abort, 7: _segfault, 9: _out_of_resources, 11: _wrong, 13: _sticky}
)
