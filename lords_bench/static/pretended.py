"""`pretended_target`: Triton believes that a GPU of some architecture is there, compiles for it, and runs nothing.

Launches on tensors of any device (a CPU's, or without memory behind them) go Triton's own way: types, alignment and
ones are specialised from the arguments of the launch, options are completed by the backend, and the compiler works
through Triton's own cache under the very key that a launch on that GPU would ask for. Instead of being run, each launch
is handed to a callback. Nothing here knows which kernels there are.

    with pretended_target(named_target("sm_90"), launches.append):
        some_kernel[(8,)](x, y, n, BLOCK=128)

A driver is what Triton asks for the device; what it does with a compiled kernel is replaced (`JITFunction.run`), and,
to record without compiling, the compiler itself. Both hold for the whole process until the context ends.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

from lords_bench.errors import UsageError
from lords_bench.static.target import Target

# How far a launch is compiled: to the file that the driver would load; to the text that the assembler would be given
# (`ptx`, `amdgcn`), which then stands for that file; to Triton's GPU dialect (`ttgir`); or not at all.
Until = Literal["binary", "assembly", "ttgir", "nothing"]

_FP_FUSION = "TRITON_DEFAULT_FP_FUSION"


@dataclass(frozen=True, kw_only=True, eq=False)
class Launch:
    """One launch of a kernel on a pretended target.

    Attributes:
        kernel: the `@triton.jit` function.
        grid: programs along each of the three axes.
        args: parameter name to value of what the compiled kernel is given at run time, in order.
        constexprs: parameter name to value of what was compiled in: constexprs, and integers that are 1.
        signature: parameter name to Triton type (`*bf16`, `i32`, …, `constexpr`), in order.
        divisible_by_16: parameters that were compiled as multiples of 16.
        options: Triton's options of the target: `num_warps`, `num_stages`, ….
        hash: Triton's own key of the compiled code, the name of its folder in Triton's cache.
        compiled: Triton's `CompiledKernel`; None where nothing was compiled.
    """

    kernel: Any
    grid: tuple[int, int, int]
    args: Mapping[str, Any]
    constexprs: Mapping[str, Any]
    signature: Mapping[str, str]
    divisible_by_16: frozenset[str]
    options: Any
    hash: str
    target: Target
    compiled: Any = None

    @property
    def name(self) -> str:
        """The kernel's own name."""
        return str(self.kernel.__name__)

    @property
    def module(self) -> str:
        """Import path of the module that defines the kernel."""
        return str(self.kernel.__module__)

    @property
    def asm(self) -> Mapping[str, Any]:
        """Stage to text (`ttir`, `ttgir`, `llir`, `ptx` or `amdgcn`) or bytes (`cubin` or `hsaco`).

        Raises:
            UsageError: nothing was compiled.
        """
        found: Mapping[str, Any] = self._compiled.asm
        return found

    @property
    def metadata(self) -> Any:
        """Triton's metadata: `name`, `shared` (bytes of a block), `num_warps`, ….

        Raises:
            UsageError: nothing was compiled.
        """
        return self._compiled.metadata

    @property
    def num_warps(self) -> int:
        return int(self.options.num_warps)

    @property
    def _compiled(self) -> Any:
        if self.compiled is None:
            raise UsageError(f"{self.name} was recorded, not compiled; ask for until='binary'")
        return self.compiled


@contextmanager
def pretended_target(
    target: Target,
    on_launch: Callable[[Launch], None],
    *,
    until: Until = "binary",
) -> Iterator[None]:
    """Within it every Triton launch of this process compiles for the target and is handed to `on_launch`.

    Args:
        target: the GPU to pretend.
        on_launch: called once per launch, in order; what it raises comes out of the launch.
        until: how far to compile. What stops before the end is kept in a folder of its own beside Triton's cache.

    Raises:
        UsageError: Triton's interpreter is on, which replaces the compiler when kernels are imported.
    """
    from triton import knobs
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    if knobs.runtime.interpret:
        raise UsageError("Triton's interpreter is on, so nothing can be compiled; unset TRITON_INTERPRET")
    pretended = _Driver(target, until)
    run, active = JITFunction.run, driver._active  # noqa: SLF001  (its getter would look for a real device)

    def record(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        found = run(kernel, *args, grid=grid, warmup=True, **kwargs)
        if not warmup:
            on_launch(_launch_of(kernel, found, grid, args, kwargs, target))
        return found

    with ExitStack() as stack:
        stack.enter_context(patch.object(JITFunction, "run", record))
        if until == "nothing":
            stack.enter_context(patch.object(JITFunction, "_do_compile", _not_compiled))
        elif until != "binary":
            stack.enter_context(knobs.runtime.scope())
            stack.enter_context(knobs.cache.scope())
            knobs.cache.dir = str(Path(knobs.cache.dir) / f"until-{until}")
            knobs.runtime.add_stages_inspection_hook = _Stop(until)
        if _FP_FUSION not in os.environ:
            # Triton 3.9 warns that 3.10 flips the default; both releases then compile as 3.9 does.
            stack.enter_context(patch.dict(os.environ, {_FP_FUSION: "1"}))
        driver.set_active(pretended)
        try:
            yield
        finally:
            driver._active = active  # noqa: SLF001  (None where no device was looked for yet)


class _Driver:
    """What Triton asks of a device. Its number is a name: no two targets, nor a real device, share compiled code."""

    def __init__(self, target: Target, until: Until) -> None:
        from triton.backends.compiler import GPUTarget

        arch: int | str = int(target.arch) if target.backend == "cuda" else target.arch
        self._target = GPUTarget(target.backend, arch, target.warp_size)
        self._device = f"{target.name} until {until}"
        properties = {"max_shared_mem": target.max_shared_bytes, "warpSize": target.warp_size, "arch": target.arch}
        self.utils = SimpleNamespace(get_device_properties=lambda _device: properties)

    def get_current_device(self) -> str:
        """A name; Triton keeps what it compiled for each."""
        return self._device

    def get_current_stream(self, _device: str) -> int:
        return 0

    def get_current_target(self) -> Any:
        return self._target

    def get_active_torch_device(self) -> Any:
        """Where tensors lie."""
        import torch

        return torch.device("cpu")


class _Stop:
    """Ends Triton's pipeline early: the last stage that is wanted stands for the binary."""

    def __init__(self, until: Until) -> None:
        self._until = until

    def __call__(self, *call: Any) -> tuple[str, str] | None:
        if not call:
            return self._until, self._until
        backend, stages = call[0], call[1]
        binary = backend.binary_ext
        if self._until == "assembly":
            stages[binary] = lambda text, _metadata: text.encode()
            return None
        for stage in [name for name in stages if name not in ("ttir", "ttgir")]:
            del stages[stage]

        options = call[2]

        def no_binary(module: Any, metadata: dict[str, Any]) -> bytes:
            metadata["name"] = module.get_entry_func_name()
            metadata["shared"] = _shared_bytes(module, backend, options)
            return b""

        stages[binary] = no_binary
        return None


def _shared_bytes(module: Any, backend: Any, options: Any) -> int:
    """Shared memory of a block, by the passes that lay it out early in the next stage; changes the module."""
    from triton._C.libtriton import amd, ir, nvidia, passes

    manager = ir.pass_manager(module.context)
    if backend.target.backend == "cuda":
        from triton.backends.nvidia.compiler import get_ptx_version_from_options

        passes.ttgpuir.add_combine_tensor_select_and_if(manager)
        passes.convert.add_scf_to_cf(manager)
        passes.gluon.add_inliner(manager)
        version = get_ptx_version_from_options(options, backend.target.arch)
        nvidia.passes.ttgpuir.add_allocate_shared_memory_nv(manager, backend.target.arch, version)
    else:
        passes.convert.add_scf_to_cf(manager)
        passes.gluon.add_inliner(manager)
        allocate = amd.passes.ttgpuir.add_allocate_shared_memory
        # Triton 3.8 began to ask for the architecture as well.
        allocate(manager, *((options.arch,) if ": str" in (allocate.__doc__ or "") else ()))
    manager.run(module, "shared memory")
    return int(module.get_int_attr("ttg.shared"))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recorded:
    """Stands for a compiled kernel that was not compiled."""

    src: Any
    hash: str
    options: Any


def _not_compiled(
    kernel: Any, key: Any, signature: Any, device: Any, constexprs: Any, options: Any, attrs: Any, _warmup: Any
) -> Any:
    """In place of `JITFunction._do_compile`: the key under which Triton's compiler would keep the code."""
    from triton._C.libtriton import get_cache_invalidating_env_vars
    from triton.runtime.cache import get_cache_key

    kernels, _, _, backend, _ = kernel.device_caches[device]
    source = kernel.ASTSource(kernel, signature, constexprs, attrs)
    text = get_cache_key(source, backend, options, env_vars=get_cache_invalidating_env_vars())
    kernels[key] = _Recorded(src=source, hash=hashlib.sha256(text.encode()).hexdigest(), options=options)
    return kernels[key]


def _launch_of(kernel: Any, found: Any, grid: Any, args: Any, kwargs: Any, target: Target) -> Launch:
    """The launch of `kernel[grid](*args, **kwargs)` for which Triton found that code."""
    names = [parameter.name for parameter in kernel.params]
    given = {**{p.name: p.default for p in kernel.params if p.has_default}, **dict(zip(names, args, strict=False))}
    given |= {name: value for name, value in kwargs.items() if name in names}
    sizes = [*(grid({name: given[name] for name in names}) if callable(grid) else grid), 1, 1]
    source = found.src
    constexprs = {names[path[0]]: value for path, value in source.constants.items()}
    divisible = {
        names[path[0]] for path, attributes in source.attrs.items() for name, _ in attributes if "divisib" in name
    }
    recorded = isinstance(found, _Recorded)
    return Launch(
        kernel=kernel,
        grid=(int(sizes[0]), int(sizes[1]), int(sizes[2])),
        args=MappingProxyType({name: given[name] for name in names if name not in constexprs}),
        constexprs=MappingProxyType(constexprs),
        signature=MappingProxyType(dict(source.signature)),
        divisible_by_16=frozenset(divisible),
        options=found.options if recorded else found.metadata,
        hash=found.hash,
        target=target,
        compiled=None if recorded else found,
    )
