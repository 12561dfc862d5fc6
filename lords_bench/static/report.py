"""One compiled kernel against what is asked of its machine code: `StaticReport`, one row of the static table."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lords_bench.kernels.common.budget import Budget
from lords_bench.records.status import Status
from lords_bench.static.amdgcn import AmdFacts, parse_amdgcn
from lords_bench.static.bounds import GPU_MODELS, PredictedBound, predict
from lords_bench.static.compile import CompiledLaunch, CompileResult
from lords_bench.static.sass import LoopCounts, Pipe, Resources, main_loop, parse_resources, parse_sass
from lords_bench.static.target import warps_per_sm
from lords_bench.static.ttgir import LayoutFacts

# An instruction of GCN assembly, without its comment.
_AMD_INSTRUCTION = re.compile(r"^\t([a-z]\w+[^;\n]*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticReport:
    """What the machine code of one kernel on one target says.

    Attributes:
        label: kernel and variant, as people call it.
        status, reason: how compiling ended.
        resources, loop: NVIDIA only; `loop` is None where nothing says how many weights a turn decodes.
        amd: AMD only.
        shared_bytes: shared memory of a block.
        warps_per_sm: NVIDIA only: warps that the register file holds at a time.
        pipes: NVIDIA only: instructions of the whole program, by pipe.
        tensor_opcodes: NVIDIA only: of the main loop, or of the program where there is no loop.
        layouts: what Triton decided on layouts.
        code_digest: hex SHA-256 of the instructions without their addresses; equal digests are equal kernels.
        bounds: predictions for the GPU models of this target; empty where rates are unknown.
        violations: one line each; empty means that the budget holds.
    """

    label: str
    target: str
    status: Status
    reason: str | None
    resources: Resources | None
    loop: LoopCounts | None
    amd: AmdFacts | None
    shared_bytes: int | None
    warps_per_sm: int | None
    pipes: Mapping[Pipe, int]
    tensor_opcodes: tuple[str, ...]
    layouts: LayoutFacts | None
    code_digest: str | None
    bounds: tuple[PredictedBound, ...]
    violations: tuple[str, ...]


def analyse(
    compiled: CompileResult,
    budget: Budget,
    *,
    label: str,
    bits_per_weight: float | None,
    weights_per_turn: Callable[[CompiledLaunch], int | None],
) -> StaticReport:
    """Read the machine code and hold it against the budget.

    Args:
        compiled: outcome of compiling, also a failed one; of its launches the main one counts.
        budget: limits of its main loop.
        label: name of the row.
        weights_per_turn: weights that one program of a launch decodes in one turn of its main loop, None without one.
        bits_per_weight: bits read per weight, scale factors included, for the predictions; None for no prediction.

    Raises:
        RecordError: the assembly of a successful compile cannot be read.
    """
    target = compiled.request.target
    resources = loop = amd = warps = digest = None
    bounds: tuple[PredictedBound, ...] = ()
    pipes: Mapping[Pipe, int] = {}
    tensor_opcodes: tuple[str, ...] = ()
    violations = []
    launch = compiled.main if compiled.status is Status.OK else None
    if launch is None:
        violations.append(f"{compiled.status}: {compiled.reason}")
    elif target.backend == "hip":
        amd = parse_amdgcn(launch.code.assembly)
        digest = _digest(_AMD_INSTRUCTION.findall(launch.code.assembly))
        violations += _amd_violations(amd, budget)
    else:
        instructions = parse_sass(launch.code.assembly)
        resources = parse_resources(launch.code.resources)
        digest = _digest(f"{instruction.opcode} {instruction.operands}" for instruction in instructions)
        warps = warps_per_sm(resources.registers, launch.num_warps)
        decoded = weights_per_turn(launch)
        if decoded is not None:
            loop = LoopCounts(instructions=main_loop(instructions), units=decoded / (32 * launch.num_warps))
            models = [gpu for gpu in GPU_MODELS if gpu.arch == target.name]
            if bits_per_weight is not None:
                bounds = tuple(predict(loop, gpu, bits_per_weight=bits_per_weight) for gpu in models)
        everything = LoopCounts(instructions=instructions, units=1)
        pipes = Counter(instruction.pipe for instruction in instructions)
        tensor_opcodes = (loop or everything).tensor_opcodes
        violations += _nvidia_violations(resources, everything, loop, budget)
        if loop is not None:
            violations += _load_violations(loop, dict(launch.constants).get("BITS"))
        if budget.memory_bound:
            violations += [
                f"{bound.slowest_pipe} takes {bound.pipe_over_memory:.3f} of memory's time on {bound.gpu}"
                for bound in bounds
                if bound.pipe_over_memory > 1
            ]
    if launch is not None:
        violations += _layout_violations(launch.code.layouts, budget, is_nvidia=target.backend == "cuda")
        violations += [f"{other.name}: {text}" for other in compiled.launches[1:] for text in _spills(other)]
        shared = launch.code.shared_bytes
        if shared > target.max_shared_bytes:
            violations.append(f"shared memory {shared} B > {target.max_shared_bytes} B of {target.name}")
    return StaticReport(
        label=label,
        target=target.name,
        status=compiled.status,
        reason=compiled.reason,
        resources=resources,
        loop=loop,
        amd=amd,
        shared_bytes=None if launch is None else launch.code.shared_bytes,
        warps_per_sm=warps,
        pipes=pipes,
        tensor_opcodes=tensor_opcodes,
        layouts=None if launch is None else launch.code.layouts,
        code_digest=digest,
        bounds=bounds,
        violations=tuple(violations),
    )


def _spills(launch: CompiledLaunch) -> list[str]:
    """Of a launch beside the main one, on either kind of GPU."""
    if not launch.code.resources:
        return _amd_violations(parse_amdgcn(launch.code.assembly), Budget(tensor_core=False))
    everything = LoopCounts(instructions=parse_sass(launch.code.assembly), units=1)
    elsewhere = Budget(tensor_core=False, max_shared_store_bytes_per_weight=None)
    return _nvidia_violations(parse_resources(launch.code.resources), everything, None, elsewhere)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _layout_violations(layouts: LayoutFacts, budget: Budget, *, is_nvidia: bool) -> list[str]:
    found = []
    if budget.tensor_core and layouts.scalar_products:
        found.append(f"{layouts.scalar_products} of {layouts.products} products without tensor cores")
    if any(columns % 4 for columns in layouts.byte_decoder_columns):
        found.append(f"a byte decoder meets {min(layouts.byte_decoder_columns)} consecutive columns, not 4")
    narrowest = min(layouts.code_load_bytes, default=budget.code_load_bytes)
    if is_nvidia and narrowest < budget.code_load_bytes:
        found.append(f"packed codes are loaded {narrowest} B at a time < {budget.code_load_bytes}")
    return found


def _load_violations(loop: LoopCounts, bits: object) -> list[str]:
    """The 16-byte loads of a turn must suffice for its codes: `units` × 32 weights of every lane."""
    if not isinstance(bits, int):
        return []
    wide, needed = loop.global_load_widths()[16], loop.units * bits / 8 / 16
    return [] if wide >= needed else [f"{wide} 16-byte loads in the loop, its codes need {needed:g}"]


def _amd_violations(amd: AmdFacts, budget: Budget) -> list[str]:
    found = []
    if amd.spilled_registers or amd.scratch_bytes:
        found.append(f"{amd.spilled_registers} registers spilled, {amd.scratch_bytes} B of scratch memory")
    if budget.tensor_core and not amd.matrix_opcodes:
        found.append("no matrix instruction")
    return found


def _nvidia_violations(
    resources: Resources, everything: LoopCounts, loop: LoopCounts | None, budget: Budget
) -> list[str]:
    found = []
    spills = sum(instruction.pipe is Pipe.LOCAL for instruction in everything.instructions)
    if spills or resources.stack_bytes or resources.local_bytes:
        found.append(
            f"{spills} spill instructions, {resources.stack_bytes} B of stack, {resources.local_bytes} B local"
        )
    unknown = sorted({i.mnemonic for i in everything.instructions if i.pipe is Pipe.UNKNOWN})
    if unknown:
        found.append(f"no pipe is known for {', '.join(unknown)}")
    if budget.tensor_core and not (loop or everything).tensor_opcodes:
        found.append("no tensor-core instruction")
    if loop is None:
        if budget.max_instructions_per_32_weights is not None:
            found.append("an instruction budget, but nothing says what a turn of the loop decodes")
        return found
    measured, limit = loop.instructions_per_32_weights, budget.max_instructions_per_32_weights
    if limit is not None and measured > limit:
        found.append(f"{measured:.3f} instructions per 32 weights > {limit:g}")
    stored, most = loop.shared_store_bytes_per_weight, budget.max_shared_store_bytes_per_weight
    if most is not None and stored > most:
        found.append(f"{stored:.3f} B per weight stored to shared memory in the loop > {most:g}")
    return found
