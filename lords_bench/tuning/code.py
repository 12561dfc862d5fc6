"""What the compiler makes of a kernel's configurations: machine code on a machine with no GPU, in parallel workers.

Configurations whose machine code and launch are equal need one measurement; those that spill or need more shared memory
than a block may have need none.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lords_bench.kernel_registry import config_of
from lords_bench.records.status import Status
from lords_bench.records.trial import MachineCode, Settings
from lords_bench.records.tuned import Problem
from lords_bench.static.compile import CompiledKernel, compile_all
from lords_bench.static.request import CompileRequest, request_from_signature
from lords_bench.static.sass import LoopCounts, Pipe, main_loop, parse_resources, parse_sass
from lords_bench.static.target import Target

_COMMENTS = re.compile(r"/\*.*?\*/")

# Fields of a configuration that set the grid or an argument at launch, and leave the machine code as it is.
LAUNCH_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rank_expanded": ("tiles_per_program",),
        "scale_tile": ("tiles_per_program",),
        "blockwise": ("tiles_per_program",),
        "scale_tile_gemm": (),
        "blockwise_gemm": (),
        "dequantize_matmul": (),
        "blockwise_dequantize_matmul": (),
    }
)


# Kernel to the folder and function of its signature, where they are not its name and `signature`.
_SIGNATURES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "dequantize_matmul": ("dequantize", "signature"),
        "blockwise_dequantize_matmul": ("blockwise", "dequantize_signature"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """A configuration's machine code, or why there is none.

    Attributes:
        loop: the main loop; None where nothing says what a turn decodes.
        instructions: of the whole kernel.
        launch: stands for machine code and launch: equal ones need one measurement.
    """

    status: Status
    reason: str | None
    code: MachineCode | None
    loop: LoopCounts | None
    instructions: int
    launch: str | None


def compile_configs(
    kernel: str,
    configs: Sequence[Settings],
    problem: Problem,
    target: Target,
    *,
    workers: int | None = None,
    cache_dir: Path | None = None,
    on_result: Callable[[CompiledKernel], None] | None = None,
) -> tuple[Compiled, ...]:
    """Compile every configuration that differs in machine code; one result per configuration, in order.

    Raises:
        UsageError: a kernel without a signature.
    """
    requests = [request_of(kernel, config, problem, target) for config in configs]
    distinct = list(dict.fromkeys(requests))
    compiled = compile_all(distinct, workers=workers, cache_dir=cache_dir, on_result=on_result)
    by_request = dict(zip(distinct, compiled, strict=True))
    facts = {request: _facts(result) for request, result in by_request.items()}
    return tuple(
        _with_launch(facts[request], kernel, config) for request, config in zip(requests, configs, strict=True)
    )


def request_of(kernel: str, config: Settings, problem: Problem, target: Target) -> CompileRequest:
    """The specialisation that a launch on the problem would run, for N and K without ragged edges."""
    return request_from_signature(_signature(kernel, config, problem), target)


def _signature(kernel: str, config: Settings, problem: Problem) -> Any:
    from importlib import import_module

    import torch

    dtype = getattr(torch, problem.x_dtype)
    arguments: dict[str, Any] = {"bits": problem.bits, "decoder": problem.decoder}
    if problem.block is None:
        arguments |= {"rank": problem.rank}
    else:
        arguments |= {"block": problem.block, "has_zero": problem.zero_points}
    if kernel in ("blockwise", "blockwise_gemm"):
        arguments |= {"k": problem.k}
    if kernel in ("scale_tile", "blockwise"):
        arguments |= {"m": problem.m_bucket}
    if kernel in ("scale_tile", "scale_tile_gemm", "rank_expanded", "blockwise", "blockwise_gemm"):
        arguments |= {"x_dtype": dtype}
    folder, function = _SIGNATURES.get(kernel, (kernel, "signature"))
    signature = getattr(import_module(f"lords_bench.kernels.{folder}.launch"), function)
    return signature(config_of(kernel, config), **arguments)


def _facts(result: CompiledKernel) -> Compiled:
    if result.status is not Status.OK:
        return Compiled(status=result.status, reason=result.reason, code=None, loop=None, instructions=0, launch=None)
    target, request = result.request.target, result.request
    if target.backend == "hip":
        code = MachineCode(sha256=_digest(result.assembly), shared_bytes=result.shared_bytes)
        return Compiled(status=Status.OK, reason=None, code=code, loop=None, instructions=0, launch=code.sha256)
    instructions = parse_sass(result.assembly)
    resources = parse_resources(result.resources)
    text = "\n".join(f"{item.opcode} {_COMMENTS.sub('', item.operands)}" for item in instructions)
    spills = any(item.pipe is Pipe.LOCAL for item in instructions)
    code = MachineCode(
        sha256=_digest(text),
        registers=resources.registers,
        spill_bytes=resources.local_bytes + resources.stack_bytes if spills else 0,
        shared_bytes=result.shared_bytes,
        atomics=any(item.mnemonic in ("RED", "REDG") and ".F" in item.opcode for item in instructions),
    )
    loop = None
    if request.weights_per_iteration is not None:
        units = request.weights_per_iteration / (32 * request.num_warps)
        loop = LoopCounts(instructions=main_loop(instructions), units=units)
    status, reason = Status.OK, None
    if result.shared_bytes is not None and result.shared_bytes > target.max_shared_bytes:
        status = Status.UNSUPPORTED
        reason = (
            f"needs {result.shared_bytes} B of shared memory, {target.name} has {target.max_shared_bytes} B a block"
        )
    elif code.spill_bytes:
        status, reason = Status.UNSUPPORTED, f"spills registers: {code.spill_bytes} B of local memory per thread"
    return Compiled(
        status=status, reason=reason, code=code, loop=loop, instructions=len(instructions), launch=code.sha256
    )


def _with_launch(facts: Compiled, kernel: str, config: Settings) -> Compiled:
    """The grid and run-time arguments belong to what is launched; warps are in the code through the launch bounds."""
    from dataclasses import replace

    if facts.launch is None:
        return facts
    values = dict(config)
    rest = [(name, values[name]) for name in (*LAUNCH_FIELDS.get(kernel, ()), *_GRID_FIELDS) if name in values]
    return replace(facts, launch=_digest(f"{facts.launch} {rest}"))


# The grid follows from the tile, and code for two tiles could be equal only by chance; they are kept apart.
_GRID_FIELDS = ("block_n", "block_m", "blocks_k", "num_warps")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
