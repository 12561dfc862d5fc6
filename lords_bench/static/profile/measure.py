"""A product launched twice without a GPU: in the emulator, which counts, and compiled to the code that a GPU gets.

Both go through the kernel's own `launch`, on the same tensors, with the GPU pretended; so grid, constants and
specialisation are those of the launch, and the nth launch of one is the nth of the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lords_bench.emulator import Launch, emulated
from lords_bench.errors import EmulationError, UsageError
from lords_bench.kernel_check import make_case, prepared_for
from lords_bench.kernel_registry import KERNELS, Cost, WeightKind, config_of, named_kernel
from lords_bench.kernels.common.gpu import Gpu, pretended_gpu
from lords_bench.records.tuned import Choice
from lords_bench.static.bounds import GpuModel
from lords_bench.static.pretended import Launch as CompiledLaunch
from lords_bench.static.pretended import pretended_target
from lords_bench.static.sass import Resources, parse_resources
from lords_bench.static.target import Target, named_target
from lords_bench.static.worker import disassemble

# Half a minute of emulation on one core, about. A launch that needs more is profiled by a sample of its CTAs.
MOST_INSTRUCTIONS = 8_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A product.

    Attributes:
        m, n, k: tokens, out and in features.
        bits: per code.
        rank: of the scale, and of the adapter of a layer that has one.
        block: inputs per scale of a block-wise weight.
        dtype: of activations, as torch names it.
    """

    m: int
    n: int
    k: int
    bits: int = 4
    rank: int = 16
    block: int = 64
    dtype: str = "bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Profiled:
    """One launch: what the emulator counted, and the machine code that a GPU would get.

    Attributes:
        launch: the emulated one.
        assembly: SASS with encodings.
        resources: of a thread.
        shared_bytes: of a CTA.
        integers: (parameter, value) of the integers that it is given.
    """

    launch: Launch
    assembly: str
    resources: Resources
    shared_bytes: int
    integers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A product's launches in order, and what no launch of it can do without.

    Attributes:
        choice: the kernel, and its settings; () is the kernel's own rule.
    """

    choice: Choice
    launches: tuple[Profiled, ...]
    cost: Cost


def profiled_product(
    asked: Asked,
    gpu: GpuModel,
    kind: WeightKind,
    choose: Callable[[Any], Choice],
    *,
    most_instructions: int = MOST_INSTRUCTIONS,
) -> Product:
    """Launch a product on random numbers, emulated and compiled.

    Args:
        asked: the product.
        gpu: whose architecture and size the kernels' rules see.
        kind: of weight.
        choose: the prepared weight to the kernel that multiplies with it.
        most_instructions: of warps, after which a launch is not gone on with.

    Raises:
        UsageError: the kernel refuses the product, or launches nothing of its own.
        EmulationError: an architecture whose instructions are not emulated, or a launch at fault.
    """
    dtype: torch.dtype = getattr(torch, asked.dtype)
    case = make_case(
        asked.m, asked.n, asked.k, bits=asked.bits, rank=asked.rank, dtype=dtype, device=torch.device("cpu"),
        block=asked.block,
    )  # fmt: skip
    with pretended_gpu(Gpu(arch=gpu.arch, sm_count=gpu.sm_count)), torch.no_grad():
        weight = prepared_for(next(kernel for kernel in KERNELS.values() if kernel.weight == kind), case)
        choice = choose(weight)
        kernel, config = named_kernel(choice.kernel), config_of(choice.kernel, choice.settings)
        support = kernel.supports(asked.m, weight, dtype)
        if not support.ok:
            raise UsageError(f"{choice.kernel} does not take the product: {support.reason}")

        def launch() -> None:
            kernel.launch(case.x_MK, weight, None, config)

        launches = profiled_launches(launch, named_target(gpu.arch), most_instructions=most_instructions)
        if not launches:
            raise UsageError(f"{choice.kernel} launches no kernel of this project, so there is nothing to profile")
        return Product(choice=choice, launches=launches, cost=kernel.cost(asked.m, weight, dtype))


def profiled_launches(
    call: Callable[[], object], target: Target, *, most_instructions: int = MOST_INSTRUCTIONS
) -> tuple[Profiled, ...]:
    """Every Triton launch of a call on tensors of the CPU.

    Raises:
        EmulationError: what was compiled is not what was emulated, or a launch is at fault.
    """
    with emulated(target.name, most_instructions=most_instructions) as device:
        call()
    compiled: list[CompiledLaunch] = []
    with pretended_target(target, compiled.append):
        call()
    both = [(one.kernel, one.grid) for one in device.launches], [(one.name, one.grid) for one in compiled]
    if both[0] != both[1]:
        raise EmulationError(f"emulated launches {both[0]} are not the compiled ones {both[1]}")
    for launch in device.launches:
        if launch.faults:
            raise EmulationError(f"{launch.kernel} is at fault, so its counts mean nothing: {launch.faults[0]}")
    return tuple(_profiled(launch, code) for launch, code in zip(device.launches, compiled, strict=True))


def _profiled(launch: Launch, compiled: CompiledLaunch) -> Profiled:
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    assembly, usage = disassemble(compiled.asm["cubin"], tools / "cuobjdump")
    resources = parse_resources(usage)
    return Profiled(
        launch=launch,
        assembly=assembly,
        resources=resources,
        shared_bytes=max(int(compiled.metadata.shared), resources.static_shared_bytes),
        integers=tuple((name, value) for name, value in compiled.args.items() if isinstance(value, int)),
    )
