"""`Target`: an architecture that Triton can compile for, and the limits of its machine code.

Shared memory per block, register file and warp width are from the CUDA C++ Programming Guide (compute capabilities,
table of technical specifications) and from AMD's instruction set manuals (CDNA 3, CDNA 4, RDNA 3: local data share).
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from lords_bench.errors import UsageError

REGISTERS_PER_SM = 65536
REGISTER_GRANULE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One architecture.

    Attributes:
        backend: Triton's backend.
        arch: `80` (compute capability times ten) for CUDA, `gfx942` for HIP.
        warp_size: threads that execute together.
        max_shared_bytes: shared memory that one block can be given.
    """

    backend: Literal["cuda", "hip"]
    arch: str
    warp_size: int
    max_shared_bytes: int

    @property
    def name(self) -> str:
        """`sm_80`, or `gfx942`."""
        return f"sm_{self.arch}" if self.backend == "cuda" else self.arch


def _cuda(capability: int, max_shared_kib: int) -> Target:
    return Target(backend="cuda", arch=str(capability), warp_size=32, max_shared_bytes=max_shared_kib * 1024)


def _hip(arch: str, warp_size: int, max_shared_kib: int) -> Target:
    return Target(backend="hip", arch=arch, warp_size=warp_size, max_shared_bytes=max_shared_kib * 1024)


ALL_TARGETS = (
    _cuda(80, 163),
    _cuda(86, 99),
    _cuda(89, 99),
    _cuda(90, 227),
    _cuda(100, 227),
    _cuda(120, 99),
    _hip("gfx942", 64, 64),
    _hip("gfx950", 64, 160),
    _hip("gfx1100", 32, 64),
)
TARGETS = MappingProxyType({target.name: target for target in ALL_TARGETS})
NVIDIA_TARGETS = tuple(name for name, target in TARGETS.items() if target.backend == "cuda")
AMD_TARGETS = tuple(name for name, target in TARGETS.items() if target.backend == "hip")


def named_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}; known: {', '.join(TARGETS)}")
    return TARGETS[name]


def warps_per_sm(registers: int, num_warps: int) -> int:
    """Warps that the register file of one NVIDIA multiprocessor holds at a time: whole blocks, at most 64 warps."""
    granules = -(-registers // REGISTER_GRANULE)
    blocks = REGISTERS_PER_SM // (granules * REGISTER_GRANULE * 32 * num_warps)
    return min(blocks * num_warps, 64)
