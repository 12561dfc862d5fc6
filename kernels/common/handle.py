"""`launch_ready`: `kernel[grid](…)` of a call that is ready, without binding its arguments a second time.

Triton's launcher binds and specialises every argument and writes out their key in each call, which takes longer than
all the rest of a launch. Here a call that Triton has launched before, with arguments alike in all that it looks at,
goes from a short key of our own to Triton's key, and with that to the compiled kernel *in Triton's own cache* of the
current device, which is called as Triton calls it: on the current stream, with its hooks. So nothing is kept alive or
run that Triton would no longer run, and what is not found goes Triton's way.

Triton's way is also that of pointers that are not multiples of 16 bytes, of what `torch.compile` traces, of a kernel
with hooks before its run, of a launcher that somebody has replaced, of Triton's interpreter, of AMD (which also looks
at the size of a tensor's storage), and of every release of Triton whose launcher was not read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from lords_bench.kernels.common.ready import Ready

# What follows knows how these find a compiled kernel and what they call it with.
RELEASES_READ = ("3.6.", "3.7.", "3.9.")
_IS_3_6 = triton.__version__.startswith("3.6.")
# A pointer that is a multiple of it is compiled as one.
_ALIGNMENT = 16
# A call that meets more strides than this forgets them all.
MOST_HANDLES = 16
# Among the handles of a call that was launched.
_LAUNCHED: tuple[Any, ...] = ()

_dtype = attrgetter("dtype")
_address: Callable[[Tensor], int] = Tensor.data_ptr
_TRITONS_RUN: Any = JITFunction.run
_IS_READ = (
    triton.__version__.startswith(RELEASES_READ)
    and (_TRITONS_RUN.__module__, _TRITONS_RUN.__qualname__) == ("triton.runtime.jit", "JITFunction.run")
    # One that took the place of Triton's, and its name, before this module was read.
    and not hasattr(_TRITONS_RUN, "__wrapped__")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Handle:
    """Where Triton keeps the compiled kernel of a launch, and what else it is called with.

    Attributes:
        key: of the compiled kernel in Triton's cache of the device.
        grid: programs, as the call says them.
        programs: along each of three axes.
        constants: values of the parameters after those of run time, in order.
        global_values: (module's names, name, value) of what the code reads from modules; as Triton, we run no code that
            was compiled from other values. Unlike Triton, we do not see a change inside of a mapping.
    """

    key: Any
    grid: tuple[int, ...]
    programs: tuple[int, ...]
    constants: tuple[Any, ...]
    global_values: tuple[tuple[Mapping[str, Any], str, Any], ...]


def launch_ready(kernel: Any, ready: Ready, tensors: tuple[Tensor, ...], integers: tuple[int, ...]) -> None:
    """`kernel[ready.grid](*tensors, *integers, **ready.constants)`, by a handle where there is one.

    Args:
        kernel: a `@triton.jit` function whose parameters are pointers, integers and then constants.
        ready: a call of this kernel.
        tensors: for the pointers, in order.
        integers: for the integers, in order.
    """
    if (
        torch.compiler.is_compiling()
        or not _IS_READ
        or type(kernel) is not JITFunction
        or JITFunction.run is not _TRITONS_RUN
        or kernel.pre_run_hooks
        or ready.gpu.is_amd
    ):
        kernel[ready.grid](*tensors, *integers, **ready.constants)
        return
    if not ready.handles:
        # The first launch: calls of the operator in a compiled graph, which makes its weight anew, have no second one.
        ready.handles[_LAUNCHED] = None
        kernel[ready.grid](*tensors, *integers, **ready.constants)
        return
    addresses = 0
    for address in map(_address, tensors):
        addresses |= address
    if addresses % _ALIGNMENT:
        kernel[ready.grid](*tensors, *integers, **ready.constants)
        return
    active = driver.active
    device = active.get_current_device()
    compilation, pipeline = knobs.compilation, knobs.runtime.add_stages_inspection_hook
    key = (
        integers,
        tuple(map(_dtype, tensors)),
        kernel.debug or knobs.runtime.debug,
        compilation.instrumentation_mode,
        # From Triton 3.9 on.
        getattr(compilation, "fpsan_homomorphic_casts", None),
        # Triton 3.6 asks it only where it compiles.
        None if pipeline is None or _IS_3_6 else pipeline(),
    )
    handle = ready.handles.get(key)
    if handle is not None:
        compiled = kernel.device_caches[device][0].get(handle.key)
        # What is still being compiled beside this thread has a result to wait for.
        if compiled is not None and not hasattr(compiled, "result"):
            for names, name, value in handle.global_values:
                if names.get(name) is not value:
                    break
            else:
                _launch(compiled, handle, active.get_current_stream(device), (*tensors, *integers, *handle.constants))
                return
    launched = kernel[ready.grid](*tensors, *integers, **ready.constants)
    _keep(ready, key, _handle_of(launched, kernel, device, ready, len(tensors) + len(integers)))


def _launch(compiled: Any, handle: Handle, stream: Any, arguments: tuple[Any, ...]) -> None:
    """As the end of `JITFunction.run`."""
    hooks = knobs.runtime
    compiled.run(
        *handle.programs, stream, compiled.function, compiled.packed_metadata,
        compiled.launch_metadata(handle.grid, stream, *arguments), hooks.launch_enter_hook, hooks.launch_exit_hook,
        *arguments,
    )  # fmt: skip


def _keep(ready: Ready, key: tuple[Any, ...], handle: Handle | None) -> None:
    if handle is not None:
        if len(ready.handles) >= MOST_HANDLES:
            ready.handles.clear()
            ready.handles[_LAUNCHED] = None
        ready.handles[key] = handle


def _handle_of(launched: Any, kernel: Any, device: Any, ready: Ready, at_run_time: int) -> Handle | None:
    """The handle of what Triton has launched; None where it launched nothing, or keeps it otherwise than we know."""
    compiled, _, _, backend, _ = kernel.device_caches[device]
    keys = [key for key, found in compiled.items() if found is launched]
    names = kernel.arg_names[at_run_time:]
    constants = tuple([ready.constants[name] for name in names if name in ready.constants])
    if not keys or backend.target.backend != "cuda" or len(constants) != len(names):
        return None
    return Handle(
        key=keys[0],
        grid=ready.grid,
        programs=(*ready.grid, 1, 1)[:3],
        constants=constants,
        global_values=tuple((names, name, names[name]) for (name, _), (_, names) in kernel.used_global_vals.items()),
    )
