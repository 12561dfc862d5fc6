"""What the compiler makes of a kernel's configurations: machine code on a machine with no GPU, in parallel workers.

What is compiled is what a try on the problem launches, and it is left in Triton's own cache: the try compiles nothing.
Configurations whose machine code and launch are equal need one measurement; those that spill or need more shared memory
than a block may have need none.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lords_bench.kernels.common.static_case import Launched
from lords_bench.records.status import Status
from lords_bench.records.trial import MachineCode, Settings
from lords_bench.records.tuned import Problem
from lords_bench.static.compile import CompiledLaunch, CompileResult, compile_all
from lords_bench.static.launches import compile_request, weights_per_turn
from lords_bench.static.request import CompileRequest
from lords_bench.static.sass import LoopCounts, Pipe, main_loop, parse_resources, parse_sass
from lords_bench.static.target import Target

_COMMENTS = re.compile(r"/\*.*?\*/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """A configuration's machine code, or why there is none.

    Attributes:
        loop: the main loop; None where nothing says what a turn decodes.
        instructions: of the whole kernel.
        launch: stands for all that is launched, machine code, grids and integers: equal ones need one measurement.
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
    on_result: Callable[[CompileResult], None] | None = None,
) -> tuple[Compiled, ...]:
    """Compile every configuration; one result each, in order. What differs in the launch only is compiled once."""
    requests = [request_of(kernel, config, problem, target) for config in configs]
    compiled = compile_all(requests, workers=workers, cache_dir=cache_dir, for_launch=True, on_result=on_result)
    return tuple(map(_facts, compiled))


def request_of(kernel: str, config: Settings, problem: Problem, target: Target) -> CompileRequest:
    """What a try of the configuration launches on the problem."""
    return compile_request(Launched(kernel=kernel, problem=problem, settings=config), target)


def _facts(result: CompileResult) -> Compiled:
    if result.status is not Status.OK:
        return Compiled(status=result.status, reason=result.reason, code=None, loop=None, instructions=0, launch=None)
    target, main = result.request.target, result.main
    launch = _digest(repr([(_text(item), item.grid, item.integers, item.num_warps) for item in result.launches]))
    if target.backend == "hip":
        code = MachineCode(sha256=_digest(main.code.assembly), shared_bytes=main.code.shared_bytes)
        return Compiled(status=Status.OK, reason=None, code=code, loop=None, instructions=0, launch=launch)
    instructions = parse_sass(main.code.assembly)
    code = MachineCode(
        sha256=_digest(_text(main)),
        registers=parse_resources(main.code.resources).registers,
        spill_bytes=max(map(_spill_bytes, result.launches)),
        shared_bytes=main.code.shared_bytes,
        atomics=any(item.mnemonic in ("RED", "REDG") and ".F" in item.opcode for item in instructions),
    )
    loop = None
    decoded = weights_per_turn(main)
    if decoded is not None:
        loop = LoopCounts(instructions=main_loop(instructions), units=decoded / (32 * main.num_warps))
    status, reason = Status.OK, None
    shared = main.code.shared_bytes
    if shared > target.max_shared_bytes:
        status = Status.UNSUPPORTED
        reason = f"needs {shared} B of shared memory, {target.name} has {target.max_shared_bytes} B a block"
    elif code.spill_bytes:
        status, reason = Status.UNSUPPORTED, f"spills registers: {code.spill_bytes} B of local memory per thread"
    return Compiled(status=status, reason=reason, code=code, loop=loop, instructions=len(instructions), launch=launch)


def _spill_bytes(launch: CompiledLaunch) -> int:
    if not any(item.pipe is Pipe.LOCAL for item in parse_sass(launch.code.assembly)):
        return 0
    resources = parse_resources(launch.code.resources)
    return resources.local_bytes + resources.stack_bytes


def _text(launch: CompiledLaunch) -> str:
    """Instructions without addresses and comments; of AMD the assembly as it is."""
    if not launch.code.resources:
        return launch.code.assembly
    return "\n".join(f"{item.opcode} {_COMMENTS.sub('', item.operands)}" for item in parse_sass(launch.code.assembly))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
