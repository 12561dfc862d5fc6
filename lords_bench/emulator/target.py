"""`EmulatedGpu`: what the emulator refuses in the name of the GPU that it stands for.

Shared memory per block and the other limits are from the CUDA C++ Programming Guide (compute capabilities, table of
technical specifications); the numbers of multiprocessors are those of A100, L40S, H100 and GeForce RTX 5090.
"""

from dataclasses import dataclass
from types import MappingProxyType

from lords_bench.errors import UsageError

PREFIX = "emulated-"
MOST_THREADS = 1024
MOST_REGISTERS = 65536
REGISTER_GRANULE = 8
WARP = 32
# Blocks of a grid in x, y and z.
MOST_BLOCKS = (2**31 - 1, 65535, 65535)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmulatedGpu:
    """One architecture.

    Attributes:
        capability: compute capability times ten.
        max_shared_bytes: shared memory that one block can be given.
        sm_count: multiprocessors of a usual product.
    """

    capability: int
    max_shared_bytes: int
    sm_count: int

    @property
    def name(self) -> str:
        """`sm_90`."""
        return f"sm_{self.capability}"


ALL_GPUS = (
    EmulatedGpu(capability=80, max_shared_bytes=163 * 1024, sm_count=108),
    EmulatedGpu(capability=89, max_shared_bytes=99 * 1024, sm_count=142),
    EmulatedGpu(capability=90, max_shared_bytes=227 * 1024, sm_count=132),
    EmulatedGpu(capability=120, max_shared_bytes=99 * 1024, sm_count=170),
)
EMULATED_GPUS = MappingProxyType({gpu.name: gpu for gpu in ALL_GPUS})


def emulated_gpu(name: str) -> EmulatedGpu:
    """The GPU of that name, as `sm_90` or `emulated-sm_90`.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    found = EMULATED_GPUS.get(name.removeprefix(PREFIX))
    if found is None:
        known = ", ".join(PREFIX + known for known in EMULATED_GPUS)
        raise UsageError(f"unknown emulated device {name!r}; known: {known} (sm_100 needs tcgen05, which is missing)")
    return found


def threads_that_fit(registers: int | None) -> int:
    """Most threads of a block by the register file, where the registers of a thread are known; whole warps."""
    if registers is None:
        return MOST_THREADS
    warps = MOST_REGISTERS // (-(-registers // REGISTER_GRANULE) * REGISTER_GRANULE * WARP)
    return min(MOST_THREADS, warps * WARP)
