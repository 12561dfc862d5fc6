"""`Gpu`: what the rules for untuned shapes may know of a device. An architecture and a size, never a product's name."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A device as configuration rules see it.

    Attributes:
        arch: `sm_90` for compute capability 9.0, `gfx942` for AMD.
        sm_count: multiprocessors (compute units).
    """

    arch: str
    sm_count: int

    @property
    def is_amd(self) -> bool:
        """Compiled through ROCm: the portable decoder, and registers are what runs out."""
        return self.arch.startswith("gfx")

    @property
    def is_rdna(self) -> bool:
        """AMD's graphics line: matrix instructions of 16 inputs, and operands that take twice the registers."""
        return self.arch.startswith("gfx1")

    @property
    def shared_is_scarce(self) -> bool:
        """Consumer parts: 100 KB of shared memory per multiprocessor, where others have 164 KB or more."""
        return self.arch in ("sm_86", "sm_89", "sm_120", "sm_121")

    @property
    def has_wgmma(self) -> bool:
        """Hopper: a product takes its left operand from registers and its right one from shared memory."""
        return self.arch.startswith("sm_9")

    @property
    def has_tensor_memory(self) -> bool:
        """Blackwell's data-centre part: products of four warps leave registers, so that W would leave them too."""
        return self.arch.startswith("sm_10")


# What rules assume where nobody says which device is meant, and in the interpreter.
ANY_GPU = Gpu(arch="sm_80", sm_count=132)


_PRETENDED: ContextVar[Gpu | None] = ContextVar("pretended GPU", default=None)


@contextmanager
def pretended_gpu(gpu: Gpu) -> Iterator[None]:
    """Within it kernels are launched as on that GPU, wherever their tensors lie."""
    token = _PRETENDED.set(gpu)
    try:
        yield
    finally:
        _PRETENDED.reset(token)


def gpu_of(device: torch.device) -> Gpu:
    """The GPU that is pretended, else the one that a tensor lies on; `ANY_GPU` for a CPU, which interprets kernels."""
    return _pretended() or _gpu_of(device)


def is_compiled_on(device: torch.device) -> bool:
    """Whether kernels for tensors of the device are compiled, and so held to what a GPU can do; else interpreted."""
    return device.type == "cuda" or _pretended() is not None


def _pretended() -> Gpu | None:
    # `torch.compile` cannot follow a context variable, and in what it compiles nothing is pretended.
    return None if torch.compiler.is_compiling() else _PRETENDED.get()


@cache
def _gpu_of(device: torch.device) -> Gpu:
    """Asked once per device."""
    if device.type != "cuda":
        return ANY_GPU
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        return Gpu(arch=properties.gcnArchName.partition(":")[0], sm_count=properties.multi_processor_count)
    return Gpu(arch=f"sm_{properties.major}{properties.minor}", sm_count=properties.multi_processor_count)
