"""Triton's launches on tensors of the CPU, compiled for a GPU that is not there and executed by the emulator.

    with emulated("sm_90") as device:
        kernel[grid](x, y, n, BLOCK=64)        # any @triton.jit function; x and y on the CPU
    device.launches[-1].faults                 # () if nothing was wrong

Triton asks its driver for the target, lets it load the binary and launches through it. Here the stage that would call
the assembler hands the PTX on as the binary, and launching it executes it. Everything before is what a launch on a GPU
does: the arguments' specialisation, the compiler's passes and its refusals, the limits of the device.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from lords_bench.emulator.launch import Argument, EmulationOptions, Launch, execute
from lords_bench.emulator.parse import parse
from lords_bench.emulator.target import MOST_REGISTERS, WARP, EmulatedGpu, emulated_gpu, threads_that_fit
from lords_bench.errors import UsageError

# Triton keeps compiled kernels by the device's number; no real device has one so high.
_FIRST_NUMBER = 10_000
_FP_FUSION = "TRITON_DEFAULT_FP_FUSION"


class EmulatedDevice:
    """A driver as Triton wants it, and what was launched through it.

    Attributes:
        gpu: that it stands for.
        options: of execution.
        launches: one after the other; whoever runs many may clear the list.
    """

    def __init__(self, gpu: EmulatedGpu, options: EmulationOptions) -> None:
        self.gpu, self.options = gpu, options
        self.launches: list[Launch] = []
        self.utils = SimpleNamespace(
            load_binary=_load_binary,
            unload_module=lambda _module: None,
            get_device_properties=lambda _device: {
                "max_shared_mem": gpu.max_shared_bytes, "multiprocessor_count": gpu.sm_count, "warpSize": WARP,
                "max_num_regs": MOST_REGISTERS,
            },
        )  # fmt: skip
        self.launcher_cls = _Launcher

    def get_current_device(self) -> int:
        """A number that only this architecture has."""
        return _FIRST_NUMBER + self.gpu.capability

    def set_current_device(self, _device: int) -> None:
        """There is one only."""

    def get_current_stream(self, _device: int | None = None) -> int:
        return 0

    def get_current_target(self) -> Any:
        """What Triton compiles for."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.gpu.capability, WARP)

    def get_active_torch_device(self) -> torch.device:
        """Where tensors lie."""
        return torch.device("cpu")

    def map_python_to_cpp_type(self, kind: str) -> str:
        """No launcher is compiled, so that any name will do."""
        return kind

    def launch(
        self, ptx: str, grid: tuple[int, int, int], arguments: list[tuple[str, Argument]], shared_bytes: int
    ) -> None:
        """Execute a kernel; its `Launch` joins the others."""
        self.launches.append(execute(ptx, grid, arguments, shared_bytes=shared_bytes, options=self.options))


def _load_binary(_name: str, binary: bytes, _shared: int, _device: int) -> tuple[object, str, int, int, int]:
    """Module, function, registers, spills, and the most threads of a block: the kernel's text is its function."""
    ptx = binary.decode()
    return object(), ptx, 0, 0, threads_that_fit(parse(ptx).most_registers)


class _Launcher:
    """Made by Triton for each compiled kernel, called for each launch."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self._shared_bytes = int(metadata.shared)
        self._kinds = list(source.signature.items())

    def __call__(self, x: int, y: int, z: int, _stream: int, function: str, *rest: Any) -> None:
        from triton.runtime import driver

        # Between the function and the arguments: packed metadata, metadata of the launch, two hooks.
        arguments = rest[4:]
        given = [
            (str(name), value)
            for (name, kind), value in zip(self._kinds, arguments, strict=True)
            if kind != "constexpr"
        ]
        # As the launcher of a GPU: an empty grid launches nothing.
        if x * y * z > 0:
            driver.active.launch(function, (x, y, z), given, self._shared_bytes)


def _ptx_as_binary(*arguments: Any) -> tuple[str, str] | None:
    """Triton's hook on the stages of compiling; without arguments it is asked for a key of its effect."""
    if not arguments:
        return "emulated", "emulated"
    stages = arguments[1]
    stages["cubin"] = lambda source, _metadata: source.encode()
    return None


@contextmanager
def emulated(name: str, **options: Any) -> Iterator[EmulatedDevice]:
    """Within it, Triton compiles for the GPU of that name, and every launch is emulated.

    Args:
        name: `sm_80`, `sm_89`, `sm_90` or `sm_120`.
        options: of `EmulationOptions`.

    Raises:
        UsageError: unknown name, or Triton's interpreter is on.
    """
    from triton import knobs
    from triton.runtime import driver

    if knobs.runtime.interpret:
        raise UsageError("Triton's interpreter is on, so nothing is compiled; unset TRITON_INTERPRET")
    device = EmulatedDevice(emulated_gpu(name), EmulationOptions(**options))
    before = driver._active  # noqa: SLF001  (its getter would look for a real device)
    with ExitStack() as stack:
        stack.enter_context(knobs.runtime.scope())
        knobs.runtime.add_stages_inspection_hook = _ptx_as_binary
        if _FP_FUSION not in os.environ:
            # Triton 3.9 warns that 3.10 flips the default; both then compile as 3.9 does.
            stack.enter_context(patch.dict(os.environ, {_FP_FUSION: "1"}))
        driver.set_active(device)
        try:
            yield device
        finally:
            driver._active = before  # noqa: SLF001  (None where no device was looked for yet)
